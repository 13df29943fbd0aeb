//! From the start of a process to the plaintext of a 0.5 MB image, beside `clevis decrypt` of a secret shared 2-of-3 over
//! three tang servers.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use eds_tests::{Outcome, give_up, sample, trouble::During as _, user::User};

use crate::{
    measure::{cost, median},
    table::{Row, Target},
    tang,
};

const ROUNDS: usize = 11;

/// Measures both programs, alternately.
pub(crate) fn rows(user: &User, folder: &Path) -> Outcome<Vec<Row>> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (plain, eds, jwe, out) = (path("image"), path("image.eds"), path("image.jwe"), path("image.out"));
    let image = sample::bytes("half a megabyte", 500_000);
    fs::write(&plain, &image)?;
    user.eds(["encrypt", &plain, "-o", &eds])?.success().during("eds encrypt")?;
    let mut pins = Vec::new();
    for number in 1..=3 {
        let port = tang::start(&folder.join(format!("tang-{number}")))?;
        pins.push(format!("{{\"url\":\"http://127.0.0.1:{port}\"}}"));
    }
    let policy = format!("{{\"t\":2,\"pins\":{{\"tang\":[{}]}}}}", pins.join(","));
    cost(
        Command::new("clevis")
            .args(["encrypt", "sss", &policy, "-y"])
            .stdin(File::open(&plain)?)
            .stdout(File::create(&jwe)?),
    )
    .during("clevis encrypt")?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let _ = fs::remove_file(&out);
        ours.push(cost(&mut user.command(["decrypt", &eds, "-o", &out]))?.wall.as_secs_f64());
        if fs::read(&out)? != image {
            give_up!("eds decrypt did not give back the image");
        }
        let mut clevis = Command::new("clevis");
        clevis.arg("decrypt").stdin(File::open(&jwe)?).stdout(File::create(&out)?);
        theirs.push(cost(&mut clevis).during("clevis decrypt")?.wall.as_secs_f64());
        if fs::read(&out)? != image {
            give_up!("clevis decrypt did not give back the image");
        }
    }
    let row =
        Row::new("decrypt_cold_vs_clevis", median(ours) * 1e3, "ms", "clevis decrypt, 2-of-3", median(theirs) * 1e3);
    Ok(vec![row.promising(Target::Ratio(0.1))])
}
