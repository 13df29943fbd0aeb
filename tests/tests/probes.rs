//! `/healthz` and `/readyz` of a node whose token is lost and comes back, as a supervisor or a load balancer sees them.

use std::time::{Duration, Instant};

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

#[test]
fn probes_tell_an_outage_of_the_token_and_its_end() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    node.put_behind_daemon()?;
    node.set_hsm("deadline_ms = 1500\ngive_up_ms = 60000")?;
    node.start()?;
    let url = node.url();
    let client = Https::of(&cluster, None)?;
    assert_eq!(until(&client, &url, 200)?.body, "ready\n");
    for _ in 0..2 {
        cluster.node(1)?.daemon()?.kill()?;
        let out = until(&client, &url, 503)?;
        assert!(out.head.contains("content-type: application/problem+json"), "{out:?}");
        assert!(out.head.contains("retry-after: "), "{out:?}");
        assert!(out.body.contains("urn:eds:problem:hsm-unavailable"), "{out:?}");
        cluster.node(1)?.daemon()?.restart()?;
        until(&client, &url, 200)?;
    }
    cluster.node(1)?.stop()
}
