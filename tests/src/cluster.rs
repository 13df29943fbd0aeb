//! A cluster of key servers in a temporary folder, made the way officers make one: `eds cluster new`, `add`, `sign`.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    Outcome, Trouble,
    node::{Node, Surroundings, Token},
    pki::{Authority, Credentials},
    process,
    trouble::During as _,
    user::User,
};

/// What a cluster is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: u16,
    /// The smallest m of its keys.
    pub floor: u8,
    /// The numbers of the nodes that get a [`Relay`](crate::relay::Relay) before them, which can be made slow.
    pub relayed: &'static [u16],
}

/// A cluster. Dropping it ends its nodes and removes its files, which `EDS_KEEP=1` keeps; after a panic, it first
/// prints the ends of the logs.
#[derive(Debug)]
pub struct Cluster {
    // Before the folder, so that the nodes end before it is removed.
    nodes: Vec<Node>,
    authority: Authority,
    officer: User,
    fingerprint: String,
    folder: TempDir,
}

impl Cluster {
    /// Makes and starts three nodes with a floor of 2.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn of_three() -> Outcome<Self> {
        Self::start(Plan { nodes: 3, floor: 2, relayed: &[] })
    }

    /// Makes and starts a cluster.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn start(plan: Plan) -> Outcome<Self> {
        let mut cluster = Self::make(plan)?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        Ok(cluster)
    }

    /// Makes a cluster whose nodes do not run yet.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn make(plan: Plan) -> Outcome<Self> {
        Self::make_on(plan, &[])
    }

    /// Makes a cluster whose nodes do not run yet; those that are named have tokens of another kind than SoftHSM.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn make_on(plan: Plan, tokens: &[(u16, Token)]) -> Outcome<Self> {
        let mut folder = TempDir::with_prefix("eds-cluster-")?;
        folder.disable_cleanup(std::env::var_os("EDS_KEEP").is_some());
        let authority = Authority::new("EDS test CA")?;
        let ca = folder.path().join("ca.crt");
        authority.write(&ca)?;
        let home = folder.path().join("officer");
        fs::create_dir_all(&home)?;
        let officer = User::new(&home, &authority.person("Officer")?.write(&home, "officer")?, &ca)?;
        let floor = plan.floor.to_string();
        let made = officer
            .eds(["cluster", "new", "--name", "test ward", "--floor", &floor, "--key", "cluster.key", "draft.toml"])?
            .success()
            .during("eds cluster new")?;
        let mut cluster = Self { nodes: Vec::new(), authority, officer, fingerprint: made.text(), folder };
        for number in 1..=plan.nodes {
            let token = tokens.iter().find(|(node, _)| *node == number).map(|(_, token)| *token);
            let node = cluster.make_node(number, plan.relayed.contains(&number), token.unwrap_or_default())?;
            cluster.add(&node)?;
            cluster.nodes.push(node);
        }
        cluster.sign()?;
        Ok(cluster)
    }

    fn make_node(&self, number: u16, relayed: bool, token: Token) -> Outcome<Node> {
        let credentials = self.authority.server(&format!("node {number}"))?;
        let around = Surroundings {
            directory: &self.directory(),
            fingerprint: &self.fingerprint,
            client_ca: &self.ca(),
            credentials: &credentials,
            relayed,
            token,
        };
        Node::make(number, &self.folder.path().join(format!("node-{number}")), around)
    }

    fn add(&self, node: &Node) -> Outcome {
        let (card, number, url) = (node.card(), node.number.to_string(), node.url());
        let number: [&OsStr; 4] = ["--number".as_ref(), number.as_ref(), "--url".as_ref(), url.as_ref()];
        let words: [&OsStr; 4] = ["cluster".as_ref(), "add".as_ref(), "draft.toml".as_ref(), card.as_ref()];
        self.officer.eds(words.into_iter().chain(number))?.success().during("eds cluster add")?;
        Ok(())
    }

    /// Signs the draft as the next version of the directory, in place of the one in use. Nodes and users that run on
    /// keep the old one until they read it again.
    ///
    /// # Errors
    /// When `eds cluster sign` fails.
    pub fn sign(&self) -> Outcome {
        let directory = self.directory();
        let words: [&OsStr; 8] = [
            "cluster".as_ref(),
            "sign".as_ref(),
            "draft.toml".as_ref(),
            "--key".as_ref(),
            "cluster.key".as_ref(),
            "--force".as_ref(),
            "--output".as_ref(),
            directory.as_ref(),
        ];
        self.officer.eds(words)?.success().during("eds cluster sign")?;
        Ok(())
    }

    /// A user of the cluster with a good certificate, who has pinned it.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn user(&self, name: &str) -> Outcome<User> {
        self.user_with(name, &self.authority.person(name)?)
    }

    /// A user with this certificate, who has pinned the cluster.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn user_with(&self, name: &str, credentials: &Credentials) -> Outcome<User> {
        self.user_who_trusts(name, credentials, &self.ca())
    }

    /// A user with this certificate, who trusts this CA for the key servers and has pinned the cluster.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn user_who_trusts(&self, name: &str, credentials: &Credentials, tls_ca: &Path) -> Outcome<User> {
        let home = self.folder.path().join(name);
        fs::create_dir_all(&home)?;
        let user = User::new(&home, &credentials.write(&home, "me")?, tls_ca)?;
        let directory = self.directory();
        let words: [&OsStr; 5] = [
            "cluster".as_ref(),
            "import".as_ref(),
            directory.as_ref(),
            "--fingerprint".as_ref(),
            self.fingerprint.as_ref(),
        ];
        user.eds(words)?.success().during("eds cluster import")?;
        Ok(user)
    }

    /// Adds a section to the settings of every node, and starts them again.
    ///
    /// # Errors
    /// When a node does not start with it.
    pub fn configure(&mut self, section: &str) -> Outcome {
        for node in &mut self.nodes {
            node.add_settings(section)?;
            node.restart()?;
        }
        Ok(())
    }

    /// A node by its number.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&mut self, number: u16) -> Outcome<&mut Node> {
        let found = self.nodes.iter_mut().find(|node| node.number == number);
        found.ok_or_else(|| Trouble::new(format!("there is no node {number}")))
    }

    /// All nodes.
    pub fn nodes(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The CA of this cluster's nodes and users.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The officer, who holds the cluster key and the draft of the directory.
    pub fn officer(&self) -> &User {
        &self.officer
    }

    /// The fingerprint of the cluster key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The signed directory.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("cluster.edd")
    }

    /// The certificate of the CA.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The folder of the whole cluster, for what else a journey needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("log of node {}:\n{}", node.number, process::tail(&node.log()));
            }
        }
    }
}
