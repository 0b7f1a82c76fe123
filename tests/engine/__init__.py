"""Tests with a real Docker engine, registry and kernel, by what is done with them.

A scenario goes through several packages at once, so that files are named for it and not for a module; each docstring says what
it is. To find the tests of a change:

================================  ======================================================================================
the change is in                  its tests
================================  ======================================================================================
preload, up to the first start    ``main_job``; ``again`` (over a preload); ``use_after_preload``; ``engines*`` (versions)
the store that a base has         ``existing_stores``; ``base_engine`` (what drypoint refuses)
layers and trees                  ``corpus*`` (odd images); ``trees_by_tar``; ``tar_split_ends``
sources                           ``docker_archives``; ``cloud_way`` (fleets, as a library); ``cloud_program``
formats, tables, growth           ``disk_images*``; ``grown_disks``; ``in_place``; ``flasher``; ``boot_partition``
pack and inject                   ``etch``
inspect, verify, sizes            ``inspect_engine``; ``verify_*``; ``sizes``
the judges of these tests         ``fixtures*``; ``oracle*``
================================  ======================================================================================
"""
