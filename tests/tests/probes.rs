//! A node whose token is lost and comes back, as a supervisor or a load balancer sees it: `/healthz`, `/readyz`, and what it
//! tells by sd_notify.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    https::{Answer, Https},
};

/// The longest that a probe may wait for its answer, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until the answer has this status. All the while the process is told to live.
fn until(client: &Https, url: &str, status: u16) -> Outcome<Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let begun = Instant::now();
        let (ready, health) = (client.get(url, "/readyz")?, client.get(url, "/healthz")?);
        assert!(begun.elapsed() < IN_TIME, "the probes took {:?}", begun.elapsed());
        assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
        assert!(matches!(ready.status, 200 | 503), "{ready:?}");
        if ready.status == status {
            return Ok(ready);
        }
        assert!(Instant::now() < deadline, "{ready:?}");
    }
}

/// The next thing that the supervisor is told.
fn told(supervisor: &UnixDatagram) -> Outcome<String> {
    let mut buffer = [0; 1024];
    let length = supervisor.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

#[test]
fn probes_tell_an_outage_of_the_token_and_its_end() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    node.put_behind_daemon()?;
    node.set_hsm("deadline_ms = 1500\ngive_up_ms = 60000")?;
    let socket = node.folder().join("notify");
    let supervisor = UnixDatagram::bind(&socket)?;
    supervisor.set_read_timeout(Some(PATIENCE))?;
    node.set_variable("NOTIFY_SOCKET", socket);
    node.start()?;
    let serving = told(&supervisor)?;
    assert!(serving.starts_with("READY=1\nSTATUS=node "), "{serving}");
    let serving = serving.trim_start_matches("READY=1\n").to_owned();
    let url = node.url();
    let client = Https::of(&cluster, None)?;
    assert_eq!(until(&client, &url, 200)?.body, "ready\n");
    for _ in 0..2 {
        cluster.node(1)?.daemon()?.kill()?;
        let out = until(&client, &url, 503)?;
        assert!(out.head.contains("content-type: application/problem+json"), "{out:?}");
        assert!(out.head.contains("retry-after: "), "{out:?}");
        assert!(out.body.contains("urn:eds:problem:hsm-unavailable"), "{out:?}");
        let outage = told(&supervisor)?;
        assert!(outage.starts_with("STATUS=refuses requests: the token does not work"), "{outage}");
        cluster.node(1)?.daemon()?.restart()?;
        until(&client, &url, 200)?;
        assert_eq!(told(&supervisor)?, serving);
    }
    cluster.node(1)?.stop()?;
    assert!(told(&supervisor)?.starts_with("STOPPING=1\n"));
    Ok(())
}
