# The compiled parts under AddressSanitizer and UBSan: needs gcc. The other libraries are left out:
# they are not built for it.

SANITIZED := run/sanitized
FUZZED    := $(addprefix tests/unit/,test_rows.py test_rank_bodies.py test_infer_bodies.py) \
             $(addprefix tests/unit/servers/,test_shortcut.py test_shortcut_outcomes.py test_shortcut_fuzz.py) \
             $(addprefix tests/unit/formats/,test_forest.py test_cross.py test_attention.py test_sides.py)

.PHONY: fuzz-native
fuzz-native: $(VENV)/.test ## Fuzz the compiled parts under the sanitizers (SECONDS=60)
	@rm -rf $(SANITIZED) && mkdir -p $(SANITIZED) && cp -r src/martlet $(SANITIZED)/
	@find $(SANITIZED) -name '*.so' -delete
	CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=undefined -g' \
	  $(BIN)/python setup.py -q build_ext --build-lib $(SANITIZED) --build-temp $(SANITIZED)/temp
	PYTHONPATH=$(SANITIZED) LD_PRELOAD=$$(gcc -print-file-name=libasan.so) \
	  ASAN_OPTIONS=detect_leaks=0 MARTLET_FUZZ_SECONDS=$(or $(SECONDS),60) \
	  $(BIN)/python -m pytest -q -p no:cacheprovider -k "not TestAgainstLibraries" $(FUZZED)
