//! The environment in which AWS's SDK finds the fake: a process cannot change its own, so the bench starts itself again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::wait::free_addr;

/// Names the folder of this run.
const FOLDER: &str = "PADDOCK_BENCH_FOLDER";
const CREDENTIALS: &str = "PADDOCK_BENCH_CREDENTIALS";

/// For 127.0.0.1, and no authority: what a client has to trust is the certificate itself.
const OPENSSL: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                       [name]\nCN = fake-aws\n\
                       [extensions]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";

pub struct Environment {
    folder: PathBuf,
    credentials: SocketAddr,
}

/// Where a certificate and its key are.
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Environment {
    /// None outside of such an environment.
    pub fn of_this_process() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        Some(Self { folder, credentials: std::env::var(CREDENTIALS).unwrap().parse().unwrap() })
    }

    /// Nothing of this machine's own AWS configuration, and no instance metadata.
    pub fn run_this_program_in_it() {
        let folder = std::env::temp_dir().join(format!("paddock-wake-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        if make_certificate(&folder) {
            command.env("SSL_CERT_FILE", folder.join("certificate.pem"));
        }
        let credentials = free_addr();
        let status = command
            .env(FOLDER, &folder)
            .env(CREDENTIALS, credentials.to_string())
            .env("AWS_CONFIG_FILE", folder.join("config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{credentials}/"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "*")
            .status();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(status.unwrap().success(), "the bench itself failed");
    }

    /// Writes the configuration that the next clients read.
    pub fn write(&self, endpoint: &str, region: &str, keys: Option<(&str, &str)>) {
        let mut config = format!("[default]\nregion = {region}\nendpoint_url = {endpoint}\n");
        if let Some((key, secret)) = keys {
            config += &format!("aws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        }
        std::fs::write(self.folder.join("config"), config).unwrap();
    }

    /// None without openssl.
    pub fn certificate(&self) -> Option<Certificate> {
        let certificate =
            Certificate { chain: self.folder.join("certificate.pem"), key: self.folder.join("key.pem") };
        certificate.key.is_file().then_some(certificate)
    }

    /// Where credentials that run out are to be served.
    pub fn credentials_addr(&self) -> SocketAddr {
        self.credentials
    }
}

/// Makes none without openssl. RSA of 2,048 bits, as public endpoints usually have.
fn make_certificate(folder: &Path) -> bool {
    std::fs::write(folder.join("openssl.cnf"), OPENSSL).unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", "openssl.cnf"]);
    command.args(["-keyout", "key.pem", "-out", "certificate.pem"]).current_dir(folder);
    let Ok(made) = command.output() else { return false };
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    true
}
