//! A node that two processes serve, on one PostgreSQL database, behind a load balancer: what one stores the other gives,
//! what one changes the other knows, and one alone is enough.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    node::Node,
    ports,
    postgres::Server,
    sample,
    user::{Run, User, exit},
};

/// Encrypts a file of this name and returns its key.
fn encrypt(user: &User, name: &str) -> Outcome<String> {
    fs::write(user.home().join("plain"), sample::bytes(name, 20_000))?;
    // All nodes are needed, so that the one of two processes always is.
    let done = user.eds(["encrypt", "plain", "-o", name, "-m", "3"])?.success()?;
    Ok(done.key())
}

fn decrypt(user: &User, owner: &User, name: &str) -> Outcome<Run> {
    let file = owner.home().join(name);
    user.eds(["decrypt".as_ref(), file.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()])
}

fn assert_reads(user: &User, owner: &User, name: &str) -> Outcome {
    decrypt(user, owner, name)?.success()?;
    assert_eq!(fs::read(user.home().join("back"))?, sample::bytes(name, 20_000));
    Ok(())
}

/// Refused by the node of two processes itself, whatever the others say.
fn assert_refused(user: &User, owner: &User, name: &str) -> Outcome {
    let run = decrypt(user, owner, name)?.failed(exit::DENIED, &["hint:"])?;
    let by_first = run.stderr.lines().any(|line| line.contains("node 1 (") && line.contains("refused: not permitted"));
    assert!(by_first, "{}", run.stderr);
    Ok(())
}

fn change(owner: &User, how: &[&str], key: &str) -> Outcome {
    let words = ["key", "setacl"].iter().chain(how).copied().chain([key]);
    let said = owner.eds(words)?.success()?;
    assert!(said.stderr.contains("is on 3 of 3"), "{said:?}");
    Ok(())
}

fn verified(node: &Node) -> Outcome<String> {
    Ok(node.command_of(&["audit", "verify"])?.success()?.text())
}

#[test]
fn two_processes_on_one_database_are_one_node() -> Outcome {
    let server = Server::start(ports::free()?, |_| Ok(()))?;
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[1] })?;
    let (alice, bob) = (cluster.user("alice")?, cluster.user("bob")?);
    encrypt(&alice, "before")?;

    let first = cluster.node(1)?;
    first.stop()?;
    first.move_to_postgres(&server.make_database("node_1")?)?;
    first.start()?;
    let mut second = first.second_process()?;
    second.start()?;
    let (to_first, to_second) = (first.port(), second.port());
    let balancer = first.relay()?.clone();

    // What was there before the move, and what one process stores, the other gives.
    balancer.redirect(to_second);
    assert_reads(&alice, &alice, "before")?;
    let key = encrypt(&alice, "by-second")?;
    balancer.redirect(to_first);
    assert_reads(&alice, &alice, "by-second")?;
    let bob_name = bob.name()?;
    assert_refused(&bob, &alice, "by-second")?;

    // A change of an access list by one process counts for the other at once, in both directions; the process that is
    // asked has seen the list before.
    for (changing, asked) in [(to_first, to_second), (to_second, to_first)] {
        balancer.redirect(asked);
        assert_refused(&bob, &alice, "by-second")?;
        balancer.redirect(changing);
        change(&alice, &["-m", &format!("{bob_name}:g")], &key)?;
        balancer.redirect(asked);
        assert_reads(&bob, &alice, "by-second")?;
        balancer.redirect(changing);
        change(&alice, &["-d", &bob_name], &key)?;
        balancer.redirect(asked);
        assert_refused(&bob, &alice, "by-second")?;
    }

    // One dies: the other goes on with all that was stored.
    balancer.redirect(to_first);
    encrypt(&alice, "by-first")?;
    cluster.node(1)?.kill()?;
    balancer.redirect(to_second);
    for name in ["before", "by-second", "by-first"] {
        assert_reads(&alice, &alice, name)?;
    }
    encrypt(&alice, "after")?;
    cluster.node(1)?.start()?;
    second.kill()?;
    balancer.redirect(to_first);
    assert_reads(&alice, &alice, "after")?;

    // Each wrote a log of its own, under a name of its own.
    let logs = [verified(cluster.node(1)?)?, verified(&second)?];
    assert!(logs[1].contains("/b: ") && !logs[0].contains("/b: "), "{logs:?}");
    let again = second.command_of(&["audit", "create"])?;
    again.refused(1, &["exists already"])?;
    Ok(())
}
