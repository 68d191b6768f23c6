# The compiled parts under AddressSanitizer and UBSan: needs gcc. The other libraries are left out:
# they are not built for it. C++ libraries throw, which the sanitizer takes over from libstdc++: it
# must be there from the start.

SANITIZED := run/sanitized
FUZZED    := $(addprefix tests/unit/,test_rows.py test_rank_bodies.py test_infer_bodies.py) \
             $(addprefix tests/unit/servers/,test_native_http.py test_shortcut.py) \
             $(addprefix tests/unit/servers/,test_shortcut_outcomes.py test_shortcut_fuzz.py) \
             $(addprefix tests/unit/formats/,test_forest.py test_forest_cuts.py test_cross.py) \
             $(addprefix tests/unit/formats/,test_attention.py) \
             $(addprefix tests/unit/formats/,test_sides.py test_package.py test_catboost_ctrs.py) \
             $(addprefix tests/unit/,convert/test_package_sides.py serving/test_lease.py stores)

.PHONY: fuzz-native
fuzz-native: $(VENV)/.test ## Fuzz the compiled parts under the sanitizers (SECONDS=60)
	@rm -rf $(SANITIZED) && mkdir -p $(SANITIZED) && cp -r src/martlet $(SANITIZED)/
	@find $(SANITIZED) -name '*.so' -delete
	CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g' \
	  $(BIN)/python setup.py -q build_ext --build-lib $(SANITIZED) --build-temp $(SANITIZED)/temp
	PYTHONPATH=$(SANITIZED) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	  MARTLET_FUZZ_SECONDS=$(or $(SECONDS),60) \
	  $(BIN)/python -m pytest -q -s -p no:cacheprovider -k "not TestAgainstLibraries" $(FUZZED)
