//! What a real key server tells Prometheus, read by Prometheus' own Python reader; and who may read it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use eds_tests::{
    Outcome, Trouble, binaries,
    cluster::{Cluster, Plan},
    give_up,
    https::Https,
};

/// Reads standard input strictly, and prints `family|sample|labels|value` for every sample.
const READER: &str = r#"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
for family in read(sys.stdin.read()):
    for sample in family.samples:
        labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "le")
        print(f"{family.type} {sample.name}{{{labels}}} {float(sample.value)}")
"#;

fn read(text: &str) -> Outcome<Vec<String>> {
    let python = std::env::var_os("EDS_PYTHON")
        .map_or_else(|| binaries::source_root().join("target/venv/bin/python"), std::path::PathBuf::from);
    let mut child = Command::new(python)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or_else(|| Trouble::new("no standard input"))?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        give_up!("Prometheus does not read this:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The sample of this name and these labels.
fn value(samples: &[String], sample: &str) -> Outcome<f64> {
    let found = samples.iter().find_map(|line| line.split_once(' ')?.1.strip_prefix(sample)?.strip_prefix(' '));
    match found.and_then(|value| value.parse().ok()) {
        Some(value) => Ok(value),
        None => give_up!("there is no {sample} in\n{}", samples.join("\n")),
    }
}

fn scrape(port: u16, request: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn prometheus_reads_what_a_node_did_and_nobody_else_does() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let user = cluster.user("alice")?;
    let officer = cluster.user("officer")?;
    let port = eds_tests::ports::free()?;
    let node = cluster.node(1)?;
    let (authority, person) = ("/CN=EDS test CA/O=EDS test hospital", "/CN=officer/O=EDS test hospital");
    let admins = format!("admins = [{{ issuer = {authority:?}, subject = {person:?} }}]");
    node.add_settings(&format!("\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[policy]\n{admins}\n"))?;
    node.start()?;
    fs::write(user.home().join("plain"), "an image")?;
    user.eds(["encrypt", "plain", "-o", "sealed.eds"])?.success()?;
    for _ in 0..3 {
        user.eds(["decrypt", "sealed.eds", "-o", "copy", "--force"])?.success()?;
    }

    let answer = scrape(port, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or_else(|| Trouble::new("no answer"))?;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    let samples = read(text)?;
    assert_eq!(value(&samples, "eds_requests_total{operation=key.fetch,result=ok}")?, 3.0);
    assert_eq!(value(&samples, "eds_requests_total{operation=key.register,result=ok}")?, 1.0);
    assert_eq!(value(&samples, "eds_request_seconds_count{operation=key.fetch}")?, 3.0);
    assert_eq!(value(&samples, "eds_token_call_seconds_count{operation=unwrap,result=ok}")?, 3.0);
    assert_eq!(value(&samples, "eds_token_state{state=working}")?, 1.0);
    assert_eq!(value(&samples, "eds_token_state{state=recovering}")?, 0.0);
    assert!(value(&samples, "eds_audit_entries{}")? >= 5.0);
    assert!(value(&samples, "eds_audit_signed_time_seconds{}")? > 1.7e9);
    assert!(value(&samples, "eds_certificate_end_time_seconds{}")? > 1.7e9);
    assert!(value(&samples, "eds_connections_ended_total{reason=closed}")? >= 1.0);
    assert_eq!(value(&samples, "eds_build_info{version=0.1.0}")?, 1.0);
    assert_eq!(value(&samples, "eds_database_up{}")?, 1.0);
    for (state, keys) in [("pending", 0.0), ("active", 1.0), ("tombstone", 0.0)] {
        assert_eq!(value(&samples, &format!("eds_keys{{state={state}}}"))?, keys, "{state}");
    }
    for (state, keks) in [("active", 1.0), ("read-only", 0.0), ("retired", 0.0)] {
        assert_eq!(value(&samples, &format!("eds_keks{{state={state}}}"))?, keks, "{state}");
    }
    assert_eq!(value(&samples, "eds_kek_uses{}")?, 65_536.0);
    assert_eq!(value(&samples, "eds_kek_uses_limit{}")?, 4_294_967_296.0 - 16_777_216.0);
    // Neither people nor keys.
    for name in ["alice", "officer", "hospital", "CN="] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
    let told = user.eds(["key", "ls"])?.success()?.text();
    let key = told.split_whitespace().find(|word| word.len() == 36).ok_or_else(|| Trouble::new("no key is listed"))?;
    assert!(!text.contains(key), "the id of a key is in\n{text}");

    // Nothing but metrics is here, and every error is a problem document.
    for request in
        ["GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n", "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"]
    {
        let answer = scrape(port, request)?;
        assert!(answer.starts_with("HTTP/1.1 40") && answer.contains("application/problem+json"), "{answer}");
    }
    // At the node's own address, administrators alone.
    let url = cluster.node(1)?.url();
    let refused = Https::of(&cluster, Some(&user))?.get(&url, "/metrics")?;
    assert_eq!(refused.status, 403, "{refused:?}");
    let stranger = Https::of(&cluster, None)?.get(&url, "/metrics")?;
    assert_eq!(stranger.status, 401, "{stranger:?}");
    let told = Https::of(&cluster, Some(&officer))?.get(&url, "/metrics")?;
    assert_eq!(told.status, 200, "{told:?}");
    read(&told.body)?;
    cluster.node(1)?.stop()
}
