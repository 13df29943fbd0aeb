//! De-identifies files without key servers, to try a profile: prints what is suspect and, with `--report`, what was done.
//!
//! `cargo run -p eds --example deidentify -- [--profile FILE] [--report] [--mask X,Y,W,H]... IN OUT [IN OUT]...`
//! The secret is all zeros: what comes out is for looking at, not for giving away.

use std::{error::Error, fs::File, io};

use eds::dicom::{How, Profile, ProjectSecret, Region, deidentify};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut profile, mut masks, mut report, mut files) = (Profile::default(), Vec::new(), false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--profile" => profile = Profile::load(arguments.next().ok_or("--profile FILE")?.as_ref())?,
            "--mask" => masks.push(arguments.next().ok_or("--mask X,Y,W,H")?.parse::<Region>()?),
            "--report" => report = true,
            _ => files.push(argument),
        }
    }
    let secret = ProjectSecret::new([0; 32]);
    for pair in files.chunks_exact(2) {
        let [from, to] = pair else { continue };
        let mut input = File::open(from)?;
        let how = How { masks: &masks, pass_suspect: true, report, ..How::new(&profile, &secret) };
        match deidentify(&mut input, &how) {
            Ok(image) => {
                for suspicion in image.suspicions() {
                    eprintln!("{from}: {suspicion}");
                }
                if let Some(report) = image.report() {
                    println!("{}", serde_json::to_string_pretty(report)?);
                }
                io::copy(&mut image.deidentified(&mut input)?, &mut File::create(to)?)?;
            }
            Err(error) => eprintln!("{from}: {error}"),
        }
    }
    Ok(())
}
