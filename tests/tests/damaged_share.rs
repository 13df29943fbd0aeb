//! A key server that answers with a wrong share: it is named, its answer is set aside, and the right key comes out.

use std::{fs, time::Duration};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    dicom,
    user::exit,
};

#[test]
fn the_node_with_the_damaged_share_is_named_and_the_image_is_right() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[1, 2, 3] })?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let id = alice.eds(["register", "scan.dcm"])?.success()?.id();
    cluster.node(2)?.damage()?;
    // With one of the good nodes slow, the damaged share is looked at whichever two are asked first.
    cluster.node(3)?.relay()?.delay_answers(Duration::from_millis(600));
    let run = alice.eds(["retrieve", &id, "--restore", "-o", "back.dcm"])?.success()?;
    assert!(run.stderr.contains("node 2"), "the culprit is not named:\n{}", run.stderr);
    assert!(!run.stderr.contains("node 1"), "an honest node is blamed:\n{}", run.stderr);
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, fs::read(dicom::ct_small()?)?);
    Ok(())
}

#[test]
fn two_damaged_shares_of_three_are_named_and_nothing_comes_out() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let id = alice.eds(["register", "scan.dcm"])?.success()?.id();
    cluster.node(1)?.damage()?;
    cluster.node(3)?.damage()?;
    let refused = alice.eds(["retrieve", &id, "-o", "out.dcm"])?.refused(exit::DAMAGED, &["node 1", "node 3"])?;
    assert!(!refused.stderr.contains("node 2"), "an honest node is blamed:\n{}", refused.stderr);
    assert!(!alice.home().join("out.dcm").exists());
    Ok(())
}
