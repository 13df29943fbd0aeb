//! Where the programs under test are: beside the running program, in the same profile of the same target folder.

use std::path::{Path, PathBuf};

use crate::{Outcome, give_up};

/// The path of a program of this workspace.
///
/// # Errors
/// When it is not built.
pub fn find(name: &str) -> Outcome<PathBuf> {
    let running = std::env::current_exe()?;
    let folder = running.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join(name);
    if !program.is_file() {
        give_up!("{} is not built: run `cargo build --workspace --bins` first, or `make test`", program.display());
    }
    Ok(program)
}

/// The root of the source tree.
pub fn source_root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The SoftHSM module: where Debian and others put it, or what `EDS_PKCS11_MODULE` names.
///
/// # Errors
/// When there is none.
pub fn soft_hsm() -> Outcome<PathBuf> {
    if let Some(named) = std::env::var_os("EDS_PKCS11_MODULE") {
        return Ok(named.into());
    }
    let usual = ["/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm", "/opt/homebrew/lib/softhsm"];
    match usual.iter().map(|folder| Path::new(folder).join("libsofthsm2.so")).find(|module| module.is_file()) {
        Some(module) => Ok(module),
        None => give_up!("libsofthsm2.so was not found in {usual:?}: run `make setup`"),
    }
}

/// The openCryptoki module, which `scripts/hsm-matrix` names.
///
/// # Errors
/// When it is not named.
pub fn opencryptoki() -> Outcome<PathBuf> {
    match std::env::var_os("EDS_OPENCRYPTOKI_MODULE") {
        Some(module) => Ok(module.into()),
        None => give_up!("EDS_OPENCRYPTOKI_MODULE names no module: run scripts/hsm-matrix"),
    }
}
