# What can be done here. `just` alone lists it.

# Show this list
default:
    @just --list --unsorted

# Run all tests
test *args:
    cargo test --workspace {{ args }}

# Look for mistakes: formatting, clippy, licences and advisories
lint: fmt-check
    cargo clippy --workspace --all-targets
    cargo deny check

# Format the code
fmt:
    cargo fmt --all

# See whether the code is formatted
fmt-check:
    cargo fmt --all --check

# Measure a first sync, beside other programs (wants nginx; see docs/testing.md)
bench *args:
    cargo bench --bench sync -- {{ args }}

# Measure syncs of a mirror that is nearly up to date (wants nginx)
bench-increment *args:
    cargo bench --bench increment -- {{ args }}

# Measure a server beside nginx (wants nginx and h2load)
bench-serve *args:
    cargo bench --bench serve -- {{ args }}

# Measure what reading the facts of crate files costs
bench-sidecars *args:
    cargo bench --bench sidecars -- {{ args }}

# Measure inventories against their algorithms alone
bench-inventory *args:
    cargo bench --bench inventory -- {{ args }}

# Measure taking over a folder of crate files against sha256sum on the same files
bench-import-tree *args:
    cargo bench --bench import_tree -- {{ args }}

# Mirror what this project is built from, from crates.io, into target/demo
demo:
    cargo run --release -- sync target/demo --lockfile Cargo.lock
    cargo run --release -- status target/demo
    cargo run --release -- verify target/demo

# Serve a made-up registry until its standard input closes (Ctrl-D) (options: --releases N, --mean-size BYTES, ...)
registry *args:
    cargo run --package crateferry-test-support --bin fake-registry -- {{ args }}

# Read the packs of a mirror with a program that knows docs/format.md and nothing else
read-mirror mirror:
    python3 tests/format_reader.py {{ mirror }}

# Measure finding all that many crates need, on an index as large as crates.io's
bench-closure *args:
    cargo bench --bench closure -- {{ args }}

# Install what the other recipes use: cargo-deny, and a peer for the bench into target/bench-peers
setup:
    cargo install --locked cargo-deny
    cargo install --locked --root target/bench-peers panamax

# Kill and fail the program at many exact system calls (wants strace), turn many bits around, run many pairs of commands, cut the store's power in many histories; takes minutes
torture faults="300" flips="1000" pairs="300" histories="10000":
    CRATEFERRY_FAULTS={{ faults }} cargo test --test exact_faults -- --nocapture
    CRATEFERRY_FLIPS={{ flips }} cargo test --test damage_matrix -- --nocapture
    CRATEFERRY_PAIRS={{ pairs }} cargo test --test two_processes -- --nocapture
    CRATEFERRY_HISTORIES={{ histories }} cargo test --package crateferry-store --test model -- --nocapture

# Do what CI does
ci:
    .ci/run
