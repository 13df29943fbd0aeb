# The commands of README. Each is one thin line: the work is in scripts/, firmware/ and tests/.
.PHONY: demo test lint bench soak fuzz hsm-matrix firmware firmware-test bench-firmware setup openapi deb deb-test

demo: ## a test CA, three key servers and a real image: the whole story in seconds
	@scripts/setup demo
	@scripts/cargo build --locked -p eds --bin eds -p eds-keystore --bin eds-keystored -p eds-tests --bin demo --bin eds-testbed-damage
	@scripts/cargo run --quiet --locked -p eds-tests --bin demo

test: setup ## everything that must be true on each commit
	@scripts/test

setup: ## installs what tests need and this machine lacks
	@scripts/setup test

lint: ## format, clippy, documentation
	@scripts/lint

bench: ## speed and size beside other programs: a table and target/bench.json; ROWS="fetch load" chooses
	@scripts/setup bench
	@scripts/cargo build --locked --release -p eds --bin eds -p eds-keystore --bin eds-keystored -p eds-tests --features eds-tests/full --bin bench --bin eds-bench-node -p eds-gfal-plugin --lib
	@scripts/cargo run --quiet --locked --release -p eds-tests --features full --bin bench -- $(ROWS)

soak: setup ## what takes hours: hundreds of kills, long property tests
	@EDS_SOAK=1 PROPTEST_CASES=20000 scripts/test

fuzz: ## long fuzzing of every parser of outside bytes
	@scripts/fuzz

openapi: ## writes docs/openapi.json anew, from the types and routes
	@touch docs/openapi.json
	@EDS_WRITE_OPENAPI=1 scripts/cargo test --quiet --locked -p eds-keystore --lib api::openapi::tests::the_description

hsm-matrix: ## the key server's conformance suite over tokens that `make test` does not install
	@scripts/setup hsm-matrix
	@scripts/hsm-matrix

deb: ## Debian packages of key server and client, from a release build, into target/debian
	@scripts/setup deb
	@scripts/deb

deb-test: deb ## installs, starts, upgrades, removes and purges the key server's package in a Debian that is booted for it; as root
	@scripts/setup deb-test
	@tests/packaging/run

firmware: ## the part for imaging devices, for bare metal, and its flash size
	@scripts/setup firmware
	@firmware/build
	@firmware/size

firmware-test: ## a device in QEMU: an image from its sensor through `eds courier` to two of three nodes and a physician; its power lost
	@scripts/setup demo
	@scripts/setup firmware
	@scripts/cargo test --locked -p eds-firmware
	@scripts/cargo build --locked -p eds --bin eds -p eds-keystore --bin eds-keystored
	@scripts/cargo test --locked -p eds-tests --test firmware

bench-firmware: ## instructions, flash and RAM of a device, on an emulated Cortex-M4
	@scripts/setup firmware
	@scripts/cargo run --quiet --locked --release -p eds-tests --bin bench -- firmware
