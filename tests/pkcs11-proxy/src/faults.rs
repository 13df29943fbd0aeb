//! What the module was told to do wrong.

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    thread,
    time::Duration,
};

use cryptoki_sys::CK_RV;

/// Fails or hangs as told, before a call of this name is forwarded.
pub(crate) fn enter(name: &str) -> Result<(), CK_RV> {
    if matches!(name, "C_Initialize" | "C_Finalize" | "C_Login") {
        count(name);
    }
    loop {
        match told(name) {
            Some(Fault::Fail(code)) => return Err(code),
            // The control file is the way out of it.
            Some(Fault::Hang) => thread::sleep(Duration::from_millis(5)),
            None => return Ok(()),
        }
    }
}

enum Fault {
    Fail(CK_RV),
    Hang,
}

fn told(name: &str) -> Option<Fault> {
    let faults = fs::read_to_string(control()?.join("faults")).ok()?;
    faults.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let whom = words.next()?;
        if whom != name && whom != "*" {
            return None;
        }
        match words.next()? {
            "fail" => words.next()?.parse().ok().map(Fault::Fail),
            "hang" => Some(Fault::Hang),
            _ => None,
        }
    })
}

fn count(name: &str) {
    let file = control().and_then(|folder| File::options().create(true).append(true).open(folder.join("calls")).ok());
    if let Some(mut file) = file {
        let _ = file.write_all(format!("{name}\n").as_bytes());
    }
}

fn control() -> Option<PathBuf> {
    env::var_os("EDS_PROXY_CONTROL").map(PathBuf::from)
}
