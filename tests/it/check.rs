//! `--check`: what can be known to be wrong before a start is told, and nothing is started.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::process::Command;

use crate::cli::{complaint, paddock};
use crate::support::folder::Folder;
use crate::support::program::IMDS_ENDPOINT;
use crate::support::tls::Identity;

const IMDS_DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// `paddock ROLE --check` with these words; `@name` is a file of the folder.
fn check(role: &str, words: &str, folder: &Folder) -> Command {
    let mut command = paddock();
    command.args([role, "--check"]);
    for word in words.split_whitespace() {
        match word.strip_prefix('@') {
            Some(name) => command.arg(folder.path(name)),
            None => command.arg(word),
        };
    }
    command
}

/// A folder of sound files, and some that are not.
pub fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("token", "a-token-for-this-test\n");
    folder.write("keys", "alice sha256:0000000000000000000000000000000000000000000000000000000000000000\n");
    folder.write("empty", "");
    folder.write("other.pem", &Identity::new().key_pem);
    folder.write("paddock.toml", "max-instances = 2\n");
    folder.write("wrong.toml", "max-instances = 0\n");
    folder.write("check.toml", "check = true\n");
    Identity::new().install(&folder);
    fs::create_dir(folder.path("state")).unwrap();
    fs::create_dir_all(folder.path("kept/ledger.json")).unwrap();
    folder
}

fn is_valid(command: &mut Command) {
    let output = command.output().unwrap();
    let (told, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{command:?}: {complaints}");
    assert_eq!((&*told, &*complaints), ("the configuration is valid\n", ""), "{command:?}");
}

#[test]
fn a_valid_configuration_is_told_and_nothing_is_started() {
    let folder = folder();
    // Each stands where the program would listen, or where it would ask; whoever came would wait to be accepted.
    let [clients, management, aws, imds] = [(); 4].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let [proxy_addr, management_addr, aws_addr, imds_addr] =
        [&clients, &management, &aws, &imds].map(|listener| listener.local_addr().unwrap().to_string());
    let own = format!("--reverseproxy-addr {proxy_addr} --management-addr {management_addr}");
    let balancer = "--management-token-file @token --api-keys-file @keys --tls-cert @cert.pem --tls-key @key.pem \
                    --config @paddock.toml --statsd-addr localhost:8125 --asg-name gpu --cloudwatch-namespace Paddock --state-dir @state";
    let told = "--reverseproxy-addr aws:metadata:local-ipv4:8080 --management-addr aws:metadata:ipv6:8085 \
                --management-token-file @token --statsd-addr aws:metadata:local-ipv4:8125";
    let agent = "--local-llamacpp-addr 127.0.0.1:9 --external-llamacpp-addr aws:metadata:local-ipv4:9 \
                 --management-addr nobody.invalid:8085 --management-token-file @token --orphan-timeout 15m";
    for (role, words) in [
        ("balancer", String::new()),
        ("balancer", format!("{own} {balancer}")),
        ("balancer", told.to_owned()),
        ("balancer", "-- llama-server --port {port}".to_owned()),
        ("agent", agent.to_owned()),
    ] {
        let mut command = check(role, &words, &folder);
        command.env_remove(IMDS_DISABLED).env(IMDS_ENDPOINT, format!("http://{imds_addr}"));
        is_valid(
            command.env("AWS_ENDPOINT_URL", format!("http://{aws_addr}")).env("AWS_REGION", "eu-central-1"),
        );
    }
    assert_eq!(fs::read_dir(folder.path("state")).unwrap().count(), 0, "nothing is left there");
    for (what, listener) in [("AWS", aws), ("the metadata", imds), ("the proxy", clients)] {
        let came = listener.accept().map(|(_, peer)| peer).map_err(|error| error.kind());
        assert_eq!(came, Err(io::ErrorKind::WouldBlock), "{what} was asked");
    }
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_the_mend() {
    let folder = folder();
    let agent = "--local-llamacpp-addr 127.0.0.1:9 --management-addr 127.0.0.1:8085";
    for (role, words, says) in [
        ("balancer", "--idle-timeout 5x", "--idle-timeout: '5x' is not a duration; write"),
        (
            "balancer",
            "--management-addr 0.0.0.0:8085",
            "can be reached from other machines; give --management-token",
        ),
        ("balancer", "--management-token-file @none", "cannot be read (No such file or directory"),
        ("balancer", "--management-token-file @empty", "--management-token-file: '"),
        ("balancer", "--api-keys-file @token", "--api-keys-file: "),
        ("balancer", "--tls-cert @cert.pem --tls-key @other.pem", "--tls-key: "),
        ("balancer", "--tls-cert @cert.pem --tls-key @none", "--tls-key: "),
        ("balancer", "--tls-cert @token --tls-key @key.pem", "--tls-cert: "),
        ("balancer", "--tls-cert @cert.pem", "needs its private key; give --tls-key"),
        (
            "balancer",
            "--statsd-addr a-label-of-more-than-63-bytes-is-no-name-and-no-server-is-asked-for-it:8125",
            "' cannot be resolved",
        ),
        ("balancer", "--state-dir @none", "none' cannot be written to (No such file or directory"),
        ("balancer", "--state-dir @token", "token/ledger.json' cannot be read (Not a directory"),
        ("balancer", "--state-dir @kept", "kept/ledger.json' cannot be read (Is a directory"),
        ("balancer", "--config @wrong.toml", "--max-instances: '0'"),
        ("balancer", "--config @check.toml", "has the unknown key 'check'"),
        (
            "agent",
            &format!("{agent} --management-token-file @none"),
            "give a readable file that holds the token",
        ),
        ("agent", &format!("{agent} --orphan-timeout 15m"), "--orphan-timeout: this is no EC2 instance"),
    ] {
        let told = complaint(&mut check(role, words, &folder), 2);
        assert!(told.contains(says), "{words}: {told}");
    }
    // Whichever address that is, others reach it.
    let mut command = check("balancer", "--management-addr aws:metadata:local-ipv4:8085", &folder);
    let told = complaint(command.env_remove(IMDS_DISABLED), 2);
    assert!(told.contains("can be reached from other machines; give --management-token"), "{told}");
    let told = complaint(check("agent", agent, &folder).env("RUST_LOG", "a=b=c"), 2);
    assert!(told.starts_with("RUST_LOG: 'a=b=c' is not a filter"), "{told}");
    // The metadata is not asked, and may not be needed where it is forbidden.
    let forbidden = "--reverseproxy-addr aws:metadata:local-ipv4:8080";
    let told = complaint(&mut check("balancer", forbidden, &folder), 2);
    assert!(told.contains("AWS_EC2_METADATA_DISABLED forbids"), "{told}");
}
