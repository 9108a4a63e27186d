# Recipes are the steps of CI: `just lint` runs `.ci/run lint`.

_list:
    @just --list --unsorted

# Everything that CI checks
check:
    .ci/run

# Formatting of Rust code, syntax of scripts
format:
    .ci/run format

# The lock file of fuzz/
lock:
    .ci/run lock

# Clippy, warnings denied
lint:
    .ci/run lint

# Build with the oldest supported compiler
msrv:
    .ci/run msrv

# Licences, versions and sources of dependencies
deny:
    .ci/run deny

# Spelling
spelling:
    .ci/run spelling

# Words that the glossary replaces
words:
    .ci/run words

# API documentation, links, commands in the documentation
docs:
    .ci/run docs

# The first command of README
readme:
    .ci/run readme

# All tests
tests:
    .ci/run tests

# The interop suite only; arguments go to pytest
interop *ARGS:
    tests/interop/run {{ ARGS }}

# Fuzz targets: SECONDS of each, or of those named
fuzz *ARGS:
    fuzz/run {{ ARGS }}

# Benchmarks as a table; see bench/figures --help
bench *ARGS:
    bench/figures {{ ARGS }}

# Write the generated schemas and types
generate:
    PROCSTAR_PUBLISH=1 cargo nextest run --locked --test http --test cli page_types schema::
