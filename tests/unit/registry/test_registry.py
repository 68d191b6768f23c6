"""What the registry keeps: versions that never change, labels that move, lineage."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from martlet.errors import AlreadyExists, InvalidInput, MartletError, ModelNotFound, NotAvailable
from martlet.registry import Kind, Registry, Standing
from martlet.registry.schema import STEPS, migrate
from martlet.stores import Embeddings, write_embeddings


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "root")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.txt"
    path.write_text("a tree")
    return path


class TestVersions:
    def test_numbers_count_from_1_and_the_next_free_one_is_taken(self, registry, source):
        assert [registry.import_(source, "ctr").number for _ in range(3)] == [1, 2, 3]

    def test_a_given_number_is_kept_and_the_next_follows_it(self, registry, source):
        assert registry.import_(source, "ctr", version=20260101).number == 20260101
        assert registry.import_(source, "ctr").number == 20260102
        assert registry.import_(source, "ctr", version=0).number == 0
        assert registry.model("ctr").versions == (20260102, 20260101, 0)

    def test_a_taken_number_is_refused_and_nothing_changes(self, registry, source):
        registry.import_(source, "ctr", version=4)
        source.write_text("another tree")
        with pytest.raises(AlreadyExists, match=r"ctr@4 .* next free one is 5"):
            registry.import_(source, "ctr", version=4)
        assert registry.path_of(registry.get("ctr@4")).read_text() == "a tree"

    def test_a_deleted_number_is_never_used_again(self, registry, source):
        registry.import_(source, "ctr")
        version = registry.import_(source, "ctr")
        registry.delete("ctr@2")
        assert not registry.path_of(version).exists()
        assert registry.import_(source, "ctr").number == 3
        with pytest.raises(AlreadyExists):
            registry.import_(source, "ctr", version=2)
        assert [v.number for v in registry.versions("ctr")] == [3, 1]
        gone = registry.versions("ctr", deleted=True)[1]
        assert (gone.number, gone.standing) == (2, Standing.DELETED)
        assert gone.files == version.files

    def test_a_retired_version_is_no_longer_the_latest_until_it_is_restored(self, registry, source):
        registry.import_(source, "ctr")
        registry.import_(source, "ctr")
        registry.retire("ctr@2")
        assert registry.get("ctr").number == 1
        assert registry.get("ctr@2").standing is Standing.RETIRED
        with pytest.raises(InvalidInput, match="retired"):
            registry.label("ctr", "stable", 2)
        registry.restore("ctr@2")
        assert registry.get("ctr").number == 2

    def test_a_version_is_found_by_its_uuid(self, registry, source):
        version = registry.import_(source, "ctr")
        assert registry.get(version.uuid) == version
        with pytest.raises(ModelNotFound):
            registry.get(uuid4())

    def test_a_name_holds_one_kind(self, registry, source):
        registry.import_(source, "items", kind=Kind.EMBEDDINGS)
        with pytest.raises(AlreadyExists, match="is registered as embeddings, not as features"):
            registry.import_(source, "items", kind=Kind.FEATURES)
        assert [m.name for m in registry.models(Kind.EMBEDDINGS)] == ["items"]
        assert registry.models(Kind.MODEL) == []

    def test_a_generation_is_found_together(self, registry, source):
        for name in ("users", "items"):
            registry.import_(source, name, kind=Kind.EMBEDDINGS, generation="g1")
        registry.import_(source, "items", kind=Kind.EMBEDDINGS, generation="g2")
        assert [str(v) for v in registry.versions(generation="g1")] == ["items@1", "users@1"]

    def test_what_is_not_there_is_named_beside_what_is(self, registry, source):
        registry.import_(source, "ctr")
        registry.label("ctr", "stable", 1)
        with pytest.raises(ModelNotFound, match="no model 'cvr'; available: ctr"):
            registry.get("cvr")
        with pytest.raises(ModelNotFound, match="'ctr@7'; versions: 1; labels: stable"):
            registry.get("ctr@7")
        with pytest.raises(ModelNotFound, match="'ctr@canary'"):
            registry.get("ctr@canary")

    @pytest.mark.parametrize("act", ["retire", "delete"])
    def test_a_change_needs_to_know_which_version(self, registry, source, act):
        registry.import_(source, "ctr")
        with pytest.raises(InvalidInput, match="say which version"):
            getattr(registry, act)("ctr")


class TestLineage:
    def test_it_says_where_from_when_by_whom_and_what(self, registry, source):
        before = datetime.now(UTC)
        version = registry.import_(
            source,
            "ctr",
            format="lightgbm",
            generation="g1",
            notes={"data": "ml-latest-small", "rows": 100836},
            metrics={"auc": 0.81},
        )
        lineage = registry.get("ctr").lineage
        assert lineage == version.lineage
        assert lineage.source == str(source)
        assert before <= lineage.imported_at <= datetime.now(UTC)
        assert lineage.imported_at.utcoffset() == timedelta(0)
        assert "@" in lineage.imported_by
        assert (lineage.format, lineage.generation) == ("lightgbm", "g1")
        assert lineage.notes == {"data": "ml-latest-small", "rows": 100836}
        assert lineage.metrics == {"auc": 0.81}
        [file] = version.files
        assert (file.path, file.size) == ("model.txt", 6)
        assert file.sha256 == hashlib.sha256(b"a tree").hexdigest()

    def test_a_note_that_cannot_be_kept_is_refused(self, registry, source):
        with pytest.raises(InvalidInput, match="plain"):
            registry.import_(source, "ctr", notes={"data": object()})  # type: ignore[dict-item]

    def test_every_file_of_a_folder_is_listed(self, registry, tmp_path):
        folder = tmp_path / "saved"
        (folder / "variables").mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"graph")
        (folder / "variables" / "0.data").write_bytes(b"weights")
        version = registry.import_(folder, "deep")
        assert [f.path for f in version.files] == ["saved_model.pb", "variables/0.data"]
        assert (registry.path_of(version) / "variables" / "0.data").read_bytes() == b"weights"
        assert version.size == 12


class TestLabels:
    def test_a_label_moves_and_its_history_is_kept(self, registry, source):
        for _ in range(2):
            registry.import_(source, "ctr")
        registry.label("ctr", "stable", 1)
        registry.label("ctr", "canary", 2)
        registry.label("ctr", "stable", 2)
        assert registry.label("ctr", "stable", 2) is None
        registry.unlabel("ctr", "canary")
        assert registry.get("ctr@stable").number == 2
        assert registry.model("ctr").labels == {"stable": 2}
        moves = [(m.label, m.before, m.after) for m in registry.moves("ctr")]
        assert moves == [
            ("stable", None, 1),
            ("canary", None, 2),
            ("stable", 1, 2),
            ("canary", 2, None),
        ]
        assert [m.after for m in registry.moves("ctr", "canary")] == [2, None]

    def test_a_generation_goes_live_together_or_not_at_all(self, registry, source):
        for name in ("users", "items"):
            registry.import_(source, name)
        with pytest.raises(ModelNotFound):
            registry.label_all("live", {"users": 1, "items": 9})
        assert registry.model("users").labels == {}
        assert len(registry.label_all("live", {"users": 1, "items": 1})) == 2
        assert registry.get("items@live").number == 1

    @pytest.mark.parametrize("act", ["retire", "delete"])
    def test_a_labelled_version_stays(self, registry, source, act):
        registry.import_(source, "ctr")
        registry.label("ctr", "stable", 1)
        with pytest.raises(InvalidInput, match="labelled 'stable'"):
            getattr(registry, act)("ctr@1")
        assert registry.path_of(registry.get("ctr@1")).exists()

    @pytest.mark.parametrize("label", ["3", "", "a b", "../x"])
    def test_a_label_is_a_name_and_not_a_number(self, registry, source, label):
        registry.import_(source, "ctr")
        with pytest.raises(InvalidInput):
            registry.label("ctr", label, 1)

    def test_a_label_that_is_not_there_cannot_be_taken_away(self, registry, source):
        registry.import_(source, "ctr")
        with pytest.raises(ModelNotFound):
            registry.unlabel("ctr", "stable")


class TestRevision:
    def test_it_grows_with_each_change_and_only_then(self, registry, source):
        seen = [registry.revision()]
        for act in (
            lambda: registry.import_(source, "ctr"),
            lambda: registry.label("ctr", "stable", 1),
            lambda: registry.unlabel("ctr", "stable"),
            lambda: registry.retire("ctr@1"),
            lambda: registry.delete("ctr@1"),
        ):
            act()
            seen.append(registry.revision())
            registry.models(), registry.versions(), registry.sweep()
            assert registry.revision() == seen[-1]
        assert seen == sorted(set(seen))

    def test_another_connection_sees_it_at_once(self, registry, source, tmp_path):
        with Registry.open(tmp_path / "root") as other:
            before = other.revision()
            registry.import_(source, "ctr")
            assert other.revision() > before


class TestFiles:
    def test_they_are_read_only_copies(self, registry, source):
        version = registry.import_(source, "ctr")
        source.write_text("rewritten")
        assert registry.path_of(version).read_text() == "a tree"
        assert registry.path_of(version).stat().st_mode & 0o222 == 0

    def test_a_link_named_by_the_user_is_followed(self, registry, source, tmp_path):
        link = tmp_path / "latest.txt"
        link.symlink_to(source)
        assert registry.path_of(registry.import_(link, "ctr")).read_text() == "a tree"

    @pytest.mark.parametrize("kind", ["link", "link to a folder", "broken link", "pipe"])
    def test_what_is_not_a_plain_file_is_refused(self, registry, tmp_path, kind):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "a.txt").write_text("fine")
        odd = folder / "odd"
        match kind:
            case "link":
                odd.symlink_to("/etc/hostname")
            case "link to a folder":
                odd.symlink_to("/etc")
            case "broken link":
                odd.symlink_to("nowhere")
            case "pipe":
                os.mkfifo(odd)
        with pytest.raises(InvalidInput, match="odd is"):
            registry.import_(folder, "ctr")
        assert registry.models() == []
        assert not list((tmp_path / "root" / "staging").iterdir())

    def test_an_empty_folder_is_refused(self, registry, tmp_path):
        (tmp_path / "empty" / "inner").mkdir(parents=True)
        with pytest.raises(InvalidInput, match="holds no file"):
            registry.import_(tmp_path / "empty", "ctr")

    def test_nothing_at_the_path_is_said_so(self, registry, tmp_path):
        with pytest.raises(ModelNotFound, match="no file or folder"):
            registry.import_(tmp_path / "nowhere", "ctr")

    @pytest.mark.parametrize("name", ["../ctr", "a/b", "", ".", "x" * 129])
    def test_a_name_that_is_no_name_is_refused(self, registry, source, name):
        with pytest.raises(InvalidInput):
            registry.import_(source, name)

    def test_a_failed_check_leaves_nothing(self, registry, source, tmp_path):
        def check(path: Path) -> None:
            assert path.read_text() == "a tree"
            raise InvalidInput("no trees today")

        with pytest.raises(InvalidInput, match="no trees today"):
            registry.import_(source, "ctr", check=check)
        assert registry.models() == []
        assert not list((tmp_path / "root" / "staging").iterdir())

    def test_a_check_that_writes_is_caught(self, registry, source):
        with pytest.raises(NotAvailable, match=r"cache\.bin was added"):
            registry.import_(source, "ctr", check=lambda p: (p.parent / "cache.bin").touch())

    def test_damage_is_found_and_named(self, registry, source):
        version = registry.import_(source, "ctr")
        registry.verify(version)
        path = registry.path_of(version)
        path.chmod(0o644)
        path.write_text("a tr33")
        with pytest.raises(NotAvailable, match=r"model\.txt is damaged"):
            registry.verify(version)
        path.unlink()
        with pytest.raises(NotAvailable, match=r"model\.txt was removed"):
            registry.verify(version)

    def test_progress_ends_at_the_total(self, registry, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "a").write_bytes(b"x" * 3_000_000)
        (folder / "b").write_bytes(b"y" * 10)
        seen: list[tuple[int, int]] = []
        registry.import_(folder, "ctr", progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (3_000_010, 3_000_010)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class TestFullDisk:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_it_is_said_and_leaves_nothing(self, registry, source, tmp_path, monkeypatch):
        # Writes go to the device that is always full: the error is the kernel's own.
        opened = Path.open

        def onto_full(path: Path, mode: str = "r", *args: object, **rest: object):
            return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(path, mode)

        monkeypatch.setattr(Path, "open", onto_full)
        with pytest.raises(NotAvailable, match=r"no space left under .* nothing was imported"):
            registry.import_(source, "ctr")
        monkeypatch.undo()
        assert registry.models() == []
        assert not list((tmp_path / "root" / "staging").iterdir())
        assert registry.import_(source, "ctr").number == 1


class TestOpening:
    def test_a_folder_without_a_registry_is_not_made_one_unasked(self, tmp_path):
        with pytest.raises(NotAvailable, match="no registry"):
            Registry.open(tmp_path / "none", create=False)
        assert not (tmp_path / "none").exists()

    def test_a_damaged_catalog_is_said_so(self, tmp_path):
        Registry.open(tmp_path).close()
        (tmp_path / "catalog.db").write_bytes(b"not a database" * 100)
        with pytest.raises(NotAvailable, match="not a database"):
            Registry.open(tmp_path)

    def test_a_newer_catalog_is_refused(self, tmp_path):
        Registry.open(tmp_path).close()
        db = sqlite3.connect(tmp_path / "catalog.db")
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
        db.close()
        with pytest.raises(NotAvailable, match="newer martlet"):
            Registry.open(tmp_path)

    def test_an_older_catalog_takes_the_steps_it_lacks(self, tmp_path):
        db = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
        first, second = (
            ("CREATE TABLE a (x)",),
            ("ALTER TABLE a ADD COLUMN y", "INSERT INTO a VALUES (1, 2)"),
        )
        migrate(db, (first,))
        migrate(db, (first, second))
        migrate(db, (first, second))
        assert db.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]

    def test_a_step_that_fails_leaves_the_catalog_as_it_was(self, tmp_path):
        db = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, (("CREATE TABLE a (x)", "NOT SQL"),))
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def _import_five(root: Path, source: Path) -> None:
    with Registry.open(root) as registry:
        for _ in range(5):
            registry.import_(source, "ctr")


class TestSeveralProcesses:
    def test_they_import_side_by_side_without_a_clash(self, tmp_path, source):
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_import_five, args=(tmp_path / "root", source)) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        with Registry.open(tmp_path / "root") as registry:
            assert registry.model("ctr").versions == tuple(range(15, 0, -1))
            for version in registry.versions("ctr"):
                registry.verify(version)

    def test_a_child_of_fork_uses_its_own_connection(self, registry, source):
        registry.import_(source, "ctr")
        child = os.fork()
        if child == 0:
            try:
                registry.import_(source, "ctr")
            except MartletError:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert registry.model("ctr").versions == (2, 1)

    def test_an_import_at_work_is_not_swept_by_another_that_opens(self, registry, source, tmp_path):
        def check(_: Path) -> None:
            Registry.open(tmp_path / "root").close()

        version = registry.import_(source, "ctr", check=check)
        registry.verify(version)


def test_rows_that_are_set_beside_a_table_are_no_part_of_its_version(tmp_path):
    write_embeddings(tmp_path / "items.table", [1, 2], np.eye(2))
    with Registry.open(tmp_path / "registry") as registry:
        found = registry.import_(tmp_path / "items.table", "items", kind=Kind.EMBEDDINGS)
        Embeddings(registry.path_of(found)).put_many([1, 7], np.ones((2, 2)))
        registry.verify(found)
        again = registry.import_(registry.path_of(found).parent, "copied", kind=Kind.MODEL)
        assert [file.path for file in again.files] == ["items.table"]
