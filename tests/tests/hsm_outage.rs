//! A node whose token is lost and comes back, in each way in which tokens are lost. During the outage callers are told so
//! in time, and nobody gets a wrong answer; afterwards the same process serves, or it has ended for its supervisor.

use std::{
    fs,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    give_up,
    node::Node,
    user::{Run, User, exit},
};

/// One node behind a daemon, and a file that only it can open.
struct Ward {
    cluster: Cluster,
    user: User,
}

const CONTENT: &[u8] = b"an image that must not get lost";
/// What the node is configured with: how long a call to the token may take.
const DEADLINE: Duration = Duration::from_millis(1500);
/// The longest that a caller may wait: three calls to the token, each within its deadline, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(90);

impl Ward {
    fn new(give_up_ms: u64) -> Outcome<Self> {
        let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
        let user = cluster.user("alice")?;
        let node = cluster.node(1)?;
        node.put_behind_daemon()?;
        node.set_hsm(&format!("deadline_ms = {}\ngive_up_ms = {give_up_ms}", DEADLINE.as_millis()))?;
        node.start()?;
        fs::write(user.home().join("plain"), CONTENT)?;
        user.eds(["encrypt", "plain", "-o", "sealed.eds"])?.success()?;
        Ok(Self { cluster, user })
    }

    fn node(&mut self) -> Outcome<&mut Node> {
        self.cluster.node(1)
    }

    /// Asks for the key once. What comes out is right, or nothing; and it comes in time.
    fn ask(&self) -> Outcome<Run> {
        let begun = Instant::now();
        let run = self.user.eds(["decrypt", "sealed.eds", "-o", "copy", "--force"])?;
        let took = begun.elapsed();
        assert!(took < IN_TIME, "it took {took:?}");
        match run.code {
            Some(0) => assert_eq!(fs::read(self.user.home().join("copy"))?, CONTENT),
            // Neither «damaged» nor «denied»: those would be wrong answers.
            Some(exit::UNAVAILABLE) => {}
            code => give_up!("exit code {code:?}:\n{}", run.stderr),
        }
        Ok(run)
    }

    /// The outage is told.
    fn is_out(&self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.ask()?.code == Some(0) {
            if Instant::now() > deadline {
                give_up!("the node serves without its token");
            }
        }
        // From now on the gate is closed: no call waits for the token.
        Ok(())
    }

    /// The same process serves again, old keys and new ones.
    fn serves_again(&mut self, process: Option<u32>) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.ask()?.code != Some(0) {
            if Instant::now() > deadline {
                give_up!("the node does not come back:\n{}", fs::read_to_string(self.node()?.log())?);
            }
        }
        self.user.eds(["encrypt", "plain", "-o", "another.eds", "--force"])?.success()?;
        assert_eq!(self.node()?.process_id(), process, "the node was started again");
        Ok(())
    }
}

#[test]
fn forgotten_sessions_and_a_logged_out_token_cost_nothing() -> Outcome {
    let mut ward = Ward::new(60_000)?;
    for _ in 0..3 {
        ward.node()?.daemon()?.forget_sessions()?;
        ward.ask()?.success()?;
        ward.node()?.daemon()?.log_out()?;
        ward.ask()?.success()?;
    }
    assert_eq!(ward.node()?.daemon()?.calls("C_Initialize"), 1);
    ward.node()?.stop()
}

#[test]
fn a_token_directory_that_is_moved_away_and_back_heals() -> Outcome {
    let mut ward = Ward::new(60_000)?;
    let process = ward.node()?.process_id();
    let (tokens, away) = (ward.node()?.folder().join("tokens"), ward.node()?.folder().join("away"));
    fs::rename(&tokens, &away)?;
    ward.is_out()?;
    fs::rename(&away, &tokens)?;
    ward.serves_again(process)?;
    ward.node()?.stop()
}

#[test]
fn a_daemon_that_is_killed_and_started_again_heals() -> Outcome {
    let mut ward = Ward::new(60_000)?;
    let process = ward.node()?.process_id();
    for _ in 0..2 {
        ward.node()?.daemon()?.kill()?;
        ward.is_out()?;
        ward.node()?.daemon()?.restart()?;
        ward.serves_again(process)?;
    }
    ward.node()?.stop()
}

#[test]
fn a_module_that_hangs_for_a_while_heals() -> Outcome {
    let mut ward = Ward::new(60_000)?;
    let process = ward.node()?.process_id();
    ward.node()?.daemon()?.faults("* hang")?;
    ward.is_out()?;
    ward.node()?.daemon()?.mend()?;
    ward.serves_again(process)?;
    ward.node()?.stop()
}

#[test]
fn a_module_that_hangs_for_good_ends_the_node_for_its_supervisor() -> Outcome {
    let mut ward = Ward::new(2_000)?;
    ward.node()?.daemon()?.faults("C_Decrypt hang\nC_Encrypt hang")?;
    // Each caller leaves one of the two threads hanging. Then the node notices, and gives up in time.
    ward.is_out()?;
    ward.is_out()?;
    assert_eq!(ward.node()?.ended()?, Some(4));
    ward.node()?.daemon()?.mend()?;
    ward.node()?.start()?;
    ward.ask()?.success()?;
    ward.node()?.stop()
}

#[test]
fn a_module_that_cannot_be_started_anew_ends_the_node_for_its_supervisor() -> Outcome {
    let mut ward = Ward::new(60_000)?;
    // As p11-kit's remote module does: CKR_CRYPTOKI_NOT_INITIALIZED would be harmless, this is CKR_GENERAL_ERROR.
    ward.node()?.daemon()?.faults("C_Finalize fail 5")?;
    ward.node()?.daemon()?.kill()?;
    ward.is_out()?;
    assert_eq!(ward.node()?.ended()?, Some(4));
    ward.node()?.daemon()?.mend()?;
    ward.node()?.daemon()?.restart()?;
    ward.node()?.start()?;
    ward.ask()?.success()?;
    ward.node()?.stop()
}

#[test]
fn a_refused_pin_is_tried_once_and_the_node_stays_up() -> Outcome {
    let mut ward = Ward::new(2_000)?;
    let pin = ward.node()?.folder().join("pin");
    let right = fs::read(&pin)?;
    let before = ward.node()?.daemon()?.calls("C_Login");
    fs::write(&pin, "000000")?;
    ward.node()?.daemon()?.log_out()?;
    for _ in 0..3 {
        assert_eq!(ward.ask()?.code, Some(exit::UNAVAILABLE));
    }
    // Neither an outage of the daemon nor a right PIN leads to another try: an officer restarts the node.
    fs::write(&pin, right)?;
    ward.node()?.daemon()?.kill()?;
    ward.node()?.daemon()?.restart()?;
    assert_eq!(ward.ask()?.code, Some(exit::UNAVAILABLE));
    assert_eq!(ward.node()?.daemon()?.calls("C_Login"), before + 1);
    let log = fs::read_to_string(ward.node()?.log())?;
    assert!(log.contains("refused the PIN") && !log.contains("000000"), "{log}");
    // A start with a wrong PIN has an exit code of its own, so that a supervisor does not lock the token.
    ward.node()?.stop()?;
    fs::write(&pin, "000000")?;
    let before = ward.node()?.daemon()?.calls("C_Login");
    ward.node()?.start().expect_err("the PIN is wrong");
    assert_eq!(ward.node()?.daemon()?.calls("C_Login"), before + 1);
    Ok(())
}

/// Whatever call fails with whatever code: an outage or the right answer, and service afterwards.
#[test]
fn any_call_may_fail_with_any_code() -> Outcome {
    let mut ward = Ward::new(120_000)?;
    let process = ward.node()?.process_id();
    let calls =
        ["C_OpenSession", "C_GetSessionInfo", "C_FindObjects", "C_DecryptInit", "C_Decrypt", "C_Encrypt", "C_Login"];
    // GENERAL_ERROR, DEVICE_ERROR, OBJECT_HANDLE_INVALID, SESSION_HANDLE_INVALID, ENCRYPTED_DATA_INVALID,
    // USER_NOT_LOGGED_IN, DEVICE_REMOVED
    let codes = [0x5, 0x30, 0x82, 0xb3, 0x40, 0x101, 0x32];
    for (round, call) in calls.into_iter().enumerate() {
        let code = codes.get(round).copied().unwrap_or(5);
        ward.node()?.daemon()?.faults(&format!("{call} fail {code}"))?;
        // The session may be open already, so that the failing call comes only after this.
        ward.node()?.daemon()?.forget_sessions()?;
        // Not every call is needed for every answer; an answer that comes is right.
        ward.ask()?;
        let registered = ward.user.eds(["encrypt", "plain", "-o", "another.eds", "--force"])?;
        assert!(matches!(registered.code, Some(0 | exit::UNAVAILABLE)), "{call} {code}: {registered:?}");
        ward.node()?.daemon()?.mend()?;
        ward.serves_again(process)?;
    }
    ward.node()?.stop()
}
