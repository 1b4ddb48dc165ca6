"""What is read is taken for what was written, though it is not."""

from tests.faults.bugs.bug import Bug

CORRUPTION = "tests/faults/test_corruption.py"
STORE = "tests/test_store.py"
JOURNAL = "tests/test_journal.py"
LEFTOVERS = "tests/test_leftovers.py"
REPAIR = "tests/test_repair.py"

READING = (
    Bug(
        "a checksum is not compared with the manifest",
        (
            (
                "cache/verified.py",
                "if self._crc32c != self._committed.crc32c or tail.tobytes() != trailer(self._crc32c):",
                "if tail.tobytes() != trailer(self._crc32c):",
            ),
        ),
        (
            f"{STORE}::test_swapped_chunks_of_equal_length_are_both_caught",
            f"{CORRUPTION}::test_no_chunk_passes_for_another_or_for_that_of_another_run",
        ),
    ),
    Bug(
        "the checksum of a chunk is taken over its trailer too",
        (
            (
                "cache/codecs.py",
                "ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=crc)",
                "ChunkRecord(length=len(body) + CHECKSUM_BYTES, crc32c=checksum([body, trailer(crc)]))",
            ),
            (
                "cache/verified.py",
                "if self._crc32c != self._committed.crc32c or",
                "if checksum([tail], self._crc32c) != self._committed.crc32c or",
            ),
        ),
        (f"{STORE}::test_swapped_chunks_of_equal_length_are_both_caught",),
    ),
    Bug(
        "the trailer is not compared",
        (("cache/verified.py", " or tail.tobytes() != trailer(self._crc32c):", ":"),),
        (f"{STORE}::test_flipped_bit_anywhere_in_a_chunk_is_caught",),
    ),
    Bug(
        "a longer chunk is accepted",
        (
            (
                "cache/verified.py",
                "if stored.length != committed.length:",
                "if stored.length < committed.length:",
            ),
        ),
        (f"{STORE}::test_chunk_cut_anywhere_or_grown_is_caught",),
    ),
    Bug(
        "a missing chunk is zeros",
        (
            (
                "cache/store.py",
                '        index = view * self.chunks_per_view + number\n        if self.codec == "none":',
                "        index = view * self.chunks_per_view + number\n"
                '        if not (self.path / self.manifest.chunk_name("x", index)).exists():\n'
                "            dest[...] = 0\n"
                "            return\n"
                '        if self.codec == "none":',
            ),
        ),
        (
            f"{STORE}::test_missing_chunk_is_caught_and_never_read_as_zeros",
            f"{CORRUPTION}::test_no_damage_to_a_store_is_read_as_numbers",
        ),
    ),
    Bug(
        "a journaled chunk is not verified where a write goes on",
        (
            (
                "cache/leftovers.py",
                "            verify(place, begun.chunk_name(index), record, begun.chunk_name(index))\n",
                "            pass\n",
            ),
        ),
        (f"{LEFTOVERS}::test_a_journaled_chunk_that_is_not_as_it_was_is_written_again",),
    ),
    Bug(
        "a bad sector under a journaled chunk stops the write for ever",
        (
            (
                "cache/leftovers.py",
                "        except (CorruptStoreError, OSError):\n",
                "        except CorruptStoreError:\n",
            ),
        ),
        (f"{LEFTOVERS}::test_what_a_bad_sector_took_is_written_again[x/c.0.1.0.0.0-rewritten0]",),
    ),
    Bug(
        "a bad sector under a manifest stops the repair of it",
        (
            (
                "pipeline/repair.py",
                "        except (CorruptStoreError, OSError):\n",
                "        except (CorruptStoreError, FileNotFoundError):\n",
            ),
        ),
        ("tests/test_repair.py::test_what_a_bad_sector_took_comes_back[1]",),
    ),
    Bug(
        "a write goes on with what another one began",
        (("cache/leftovers.py", " or not found[0].is_of(begun):", ":"),),
        (f"{LEFTOVERS}::test_what_was_begun_as_anything_else_is_discarded",),
    ),
    Bug(
        "the torn end of a journal is taken for whole",
        (("cache/journal.py", "        if line != _framed(body):\n", "        if not body:\n"),),
        (f"{JOURNAL}::test_a_journal_cut_or_flipped_anywhere_tells_of_whole_batches_alone",),
    ),
    Bug(
        "the hash that a weight file names is not compared",
        (
            (
                "pipeline/weights.py",
                "    if said is None or said != content_hash(tensors, metadata):\n",
                "    if said is None:\n",
            ),
        ),
        (
            "tests/test_weights.py::test_every_flipped_byte_and_every_cut_is_noticed",
            f"{CORRUPTION}::test_no_damage_to_records_and_weights_is_read_as_numbers",
        ),
    ),
    Bug(
        "weights are not compared with the record of their stage",
        (("pipeline/weights.py", "    if content not in (None, said):\n", '    if content == "":\n'),),
        ("tests/test_weights.py::test_a_whole_file_that_is_another_one_is_refused",),
    ),
    Bug(
        "a store of another stage is read",
        (
            (
                "pipeline/runfolder.py",
                "        if found != expected:\n",
                "        if found.keys() != expected.keys():\n",
            ),
        ),
        ("tests/test_anchor.py::test_a_store_that_another_stage_wrote_is_refused",),
    ),
    Bug(
        "what is read back comes from the page cache",
        (
            (
                "cache/readback.py",
                "            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)\n",
                "            pass\n",
            ),
        ),
        ("tests/test_readback.py::test_every_chunk_is_dropped_from_the_page_cache_before_it_is_read",),
    ),
    Bug(
        "a store of another stage is mended",
        (
            (
                "pipeline/repair.py",
                "if damaged and manifest.summary.fingerprint != self.run.fingerprint(self.index, self.split):",
                "if damaged and not manifest.summary.fingerprint:",
            ),
        ),
        (f"{REPAIR}::test_a_store_of_another_stage_is_not_mended_in_the_place_of_ones_own",),
    ),
    Bug(
        "other images than were ingested are written anew",
        (("pipeline/repair.py", "return self.index > 0 or written.", "return self.index >= 0 or written."),),
        (f"{REPAIR}::test_images_are_not_written_anew_from_a_source_that_gives_others",),
    ),
    Bug(
        "a stand-in's store is written anew with the config's views",
        (
            (
                "pipeline/repair.py",
                "                self._check_views()\n                self._write_again()\n",
                "                self._write_again()\n",
            ),
        ),
        (f"{REPAIR}::test_a_stand_ins_store_of_other_views_is_not_written_anew_with_the_configs",),
    ),
    Bug(
        "what an earlier repair left is put in place unseen",
        (("pipeline/repair.py", "if is_committed(self.beside) and not self._is_sound_beside():", "if False:"),),
        (f"{REPAIR}::test_what_an_earlier_repair_left_is_put_in_place_only_if_every_byte_of_it_is_right",),
    ),
)
