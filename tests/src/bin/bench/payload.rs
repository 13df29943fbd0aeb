//! Encrypting and decrypting 500 MB on tmpfs, beside `cp`, `openssl enc -aes-256-ctr` and `age`.
//!
//! A round runs every program once, one after the other, so that all of them see the same machine.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

use eds_tests::{Outcome, Trouble, give_up, sample, trouble::During as _, user::User};

use crate::{
    measure::{Cost, cost, median},
    table::{Row, Target},
};

/// The size of the file: 500 MiB.
pub(crate) const BYTES: usize = 500 * 1024 * 1024;
const BLOCK: usize = 100 * 1024;
const ROUNDS: usize = 7;

/// What each program cost in each round.
#[derive(Default)]
struct Costs {
    eds: Vec<Cost>,
    cp: Vec<Cost>,
    openssl: Vec<Cost>,
    age: Vec<Cost>,
}

/// Measures both directions.
pub(crate) fn rows(user: &User, folder: &Path) -> Outcome<Vec<Row>> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (plain, copy) = (path("plain"), path("copy"));
    let (eds, openssl, age) = (path("plain.eds"), path("plain.ctr"), path("plain.age"));
    write_sample(Path::new(&plain))?;
    let (identity, recipient) = age_key(folder)?;
    let key = ["-K", KEY, "-iv", IV];

    let (mut encrypt, mut decrypt) = (Costs::default(), Costs::default());
    for _ in 0..ROUNDS {
        let fresh = |name: &str| fs::remove_file(name).or_else(ignore_missing);
        for name in [&eds, &openssl, &age, &copy] {
            fresh(name)?;
        }
        encrypt.eds.push(cost(&mut user.command(["encrypt", &plain, "-o", &eds]))?);
        encrypt.cp.push(cost(Command::new("cp").args([&plain, &copy]))?);
        encrypt.openssl.push(cost(
            Command::new("openssl").args(["enc", "-aes-256-ctr"]).args(key).args(["-in", &plain, "-out", &openssl]),
        )?);
        encrypt.age.push(cost(Command::new("age").args(["-r", &recipient, "-o", &age, &plain]))?);

        fresh(&copy)?;
        decrypt.eds.push(cost(&mut user.command(["decrypt", &eds, "-o", &copy]))?);
        if !same(&plain, &copy)? {
            give_up!("eds decrypt did not give back what eds encrypt got");
        }
        fresh(&copy)?;
        decrypt.cp.push(cost(Command::new("cp").args([&eds, &copy]))?);
        fresh(&copy)?;
        decrypt.openssl.push(cost(
            Command::new("openssl")
                .args(["enc", "-d", "-aes-256-ctr"])
                .args(key)
                .args(["-in", &openssl, "-out", &copy]),
        )?);
        fresh(&copy)?;
        decrypt.age.push(cost(Command::new("age").args(["-d", "-i", &identity, "-o", &copy, &age]))?);
    }
    for name in [&plain, &copy, &eds, &openssl, &age] {
        fs::remove_file(name).or_else(ignore_missing)?;
    }

    let [cp, ctr, with_age, peak] = encrypt.rows([
        "encrypt_500mb_cpu_vs_cp",
        "encrypt_500mb_cpu_vs_openssl_ctr",
        "encrypt_500mb_cpu_vs_age",
        "encrypt_500mb_peak_mib",
    ]);
    let promised = [
        cp.promising(Target::Ratio(1.7)),
        ctr.promising(Target::Ratio(1.0)),
        with_age.promising(Target::Ratio(0.6)),
        peak.promising(Target::Ours(32.0)),
    ];
    let reported = decrypt.rows([
        "decrypt_500mb_cpu_vs_cp",
        "decrypt_500mb_cpu_vs_openssl_ctr",
        "decrypt_500mb_cpu_vs_age",
        "decrypt_500mb_peak_mib",
    ]);
    Ok(promised.into_iter().chain(reported).collect())
}

impl Costs {
    fn rows(&self, [cp, openssl, age, peak]: [&'static str; 4]) -> [Row; 4] {
        let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu.as_secs_f64()));
        let memory = |costs: &[Cost]| median(costs.iter().map(|cost| cost.peak_mib));
        [
            Row::new(cp, cpu(&self.eds), "s", "cp", cpu(&self.cp)),
            Row::new(openssl, cpu(&self.eds), "s", "openssl enc -aes-256-ctr", cpu(&self.openssl)),
            Row::new(age, cpu(&self.eds), "s", "age", cpu(&self.age)),
            Row::new(peak, memory(&self.eds), "MiB", "age", memory(&self.age)),
        ]
    }
}

pub(crate) fn write_sample(path: &Path) -> Outcome {
    let mut file = File::create(path).during(path.display())?;
    // A small block: the memory that this process ever held counts as the memory of the programs that it starts.
    let block = sample::bytes("500 MB", BLOCK);
    for _ in 0..BYTES / BLOCK {
        file.write_all(&block)?;
    }
    Ok(())
}

/// A new age key: the path of the identity file, and the recipient.
pub(crate) fn age_key(folder: &Path) -> Outcome<(String, String)> {
    let path = folder.join("age.key");
    let made = eds_tests::user::run(Command::new("age-keygen").arg("-o").arg(&path))?.success()?;
    let recipient = made.stderr.split_whitespace().find(|word| word.starts_with("age1"));
    let recipient = recipient.ok_or_else(|| Trouble::new("age-keygen told no public key"))?;
    Ok((path.display().to_string(), recipient.into()))
}

pub(crate) fn same(one: &str, other: &str) -> Outcome<bool> {
    Ok(Command::new("cmp").args(["-s", one, other]).status()?.success())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

// Any key will do: only the time matters.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const IV: &str = "00112233445566778899aabbccddeeff";
