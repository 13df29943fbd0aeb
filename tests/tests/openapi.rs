//! Schemathesis asks a real key server whatever the description of its API allows, and what it forbids, and compares every
//! answer with it: status, content type, headers, schema; wrong data must be refused, and right data taken.
//!
//! The seed is printed; `EDS_SEED` repeats it, and `EDS_SOAK=1` asks many times more.

use std::{fs, path::PathBuf, process::Command};

use eds_tests::{
    Outcome, Trouble, binaries,
    cluster::{Cluster, Plan},
    give_up,
};

/// What a right request may be answered with: `not-permitted`, `key-not-found`, `key-deleted`, and what a schema cannot
/// say (422: a point off the curve, a manifest that is none; 413: more keys than its limit after all).
const CONFIG: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "403", "404", "409", "410", "413", "422"]

[checks.negative_data_rejection]
expected-statuses = ["400", "403", "404", "405", "413", "415", "422", "431"]
"#;

#[test]
fn every_answer_is_as_the_description_says() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let user = cluster.user("alice")?;
    fs::write(user.home().join("plain"), "an image")?;
    user.eds(["encrypt", "plain", "-o", "sealed.eds"])?.success()?;
    let url = cluster.node(1)?.url();
    let seed = std::env::var("EDS_SEED").unwrap_or_else(|_| "1".into());
    let soak = std::env::var_os("EDS_SOAK").is_some();
    fs::write(user.home().join("schemathesis.toml"), CONFIG)?;

    eprintln!("schemathesis: EDS_SEED={seed}");
    let mut command = Command::new(schemathesis()?);
    command
        .current_dir(user.home())
        .args(["--config-file", "schemathesis.toml", "--no-color", "run"])
        .arg(binaries::source_root().join("docs/openapi.json"))
        .args(["--url", &url, "--phases", "examples,coverage,fuzzing", "--seed", &seed])
        .args(["--max-examples", if soak { "2000" } else { "25" }])
        .args(["--checks", "all", "--exclude-checks", EXCLUDED, "--continue-on-failure"])
        .args(["--request-cert", "me.crt", "--request-cert-key", "me.key", "--warnings", "off"])
        .arg("--tls-verify")
        .arg(cluster.ca())
        .args(["--suppress-health-check", "all", "--generation-database", "none"])
        // Made-up tokens would speak in the place of the certificate, and nothing but refusals be seen.
        .args(["--generation-with-security-parameters", "false"]);
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        give_up!("schemathesis ({}), seed {seed}:\n{told}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let tested = told.lines().rev().find(|line| line.contains("generated")).unwrap_or_default();
    eprintln!("schemathesis: {}", tested.trim());
    // What it asked is in the audit log, and the node serves as before.
    user.eds(["decrypt", "sealed.eds", "-o", "copy"])?.success()?;
    cluster.node(1)?.stop()
}

/// `ignored_auth` takes the Authorization header away and wants a refusal: here the certificate of the connection speaks for
/// the caller then. `who_is_not_known_is_told_what_is_accepted` looks at that.
const EXCLUDED: &str = "ignored_auth";

/// Beside the Python of the tests, which `make setup` fills.
fn schemathesis() -> Outcome<PathBuf> {
    let python = match std::env::var_os("EDS_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => binaries::source_root().join("target/venv/bin/python"),
    };
    let program = python.with_file_name("schemathesis");
    if !program.exists() {
        return Err(Trouble::new(format!("{} is not there: run make setup", program.display())));
    }
    Ok(program)
}
