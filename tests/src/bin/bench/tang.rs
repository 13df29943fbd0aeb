//! Three tang servers, as their socket unit would run them: one process for each connection, its socket as standard
//! input and output.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use eds_tests::{Outcome, give_up, trouble::During as _, user::run};

/// Starts a tang server with new keys in `folder` and returns its port. It lives as long as this process.
pub(crate) fn start(folder: &Path) -> Outcome<u16> {
    std::fs::create_dir_all(folder)?;
    run(Command::new(program("tangd-keygen")?).arg(folder))?.success().during("tangd-keygen")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (tangd, folder) = (program("tangd")?, folder.to_path_buf());
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            // Without this the peer would wait for delayed acknowledgements.
            let _ = connection.set_nodelay(true);
            let Ok(second) = connection.try_clone() else { continue };
            let mut command = Command::new(&tangd);
            command.arg(&folder).stdin(OwnedFd::from(connection)).stdout(OwnedFd::from(second)).stderr(Stdio::null());
            if let Ok(mut child) = command.spawn() {
                // The command holds copies of the socket, which must close for the client to see the end.
                drop(command);
                std::thread::spawn(move || child.wait());
            }
        }
    });
    Ok(port)
}

fn program(name: &str) -> Outcome<PathBuf> {
    let folders = ["/usr/libexec", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    match folders.iter().map(|folder| Path::new(folder).join(name)).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => give_up!("{name} of tang was not found in {folders:?}: run `scripts/setup bench`"),
    }
}
