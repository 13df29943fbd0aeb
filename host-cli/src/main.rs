//! The program `eds`: reads the command line, runs one command, reports its error and ends with the exit code of the
//! error's kind. Data goes to standard output, everything else to standard error.

use std::process::ExitCode;

use clap::Parser;
use eds::{commands::Cli, glite};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if let Some(original) = arguments.next().as_ref().and_then(glite::started_as) {
        return original.run(std::env::args_os());
    }
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::from(error.kind().exit_code())
        }
    }
}
