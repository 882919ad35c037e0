//! The machine that doctor runs on: its metadata, files and limits; and its command line.

use std::fs::{Permissions, set_permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cli::{complaint, paddock};
use crate::support::folder::Folder;
use crate::support::program::{IMDS_ENDPOINT, Program};
use crate::support::tls::Identity;
use crate::support_aws::metadata;

fn at(endpoint: String) -> Vec<(String, String)> {
    vec![(IMDS_ENDPOINT.to_owned(), endpoint)]
}

#[tokio::test]
async fn metadata_tell_the_instance_and_its_group() {
    let imds = metadata::start(Ipv4Addr::LOCALHOST.into());
    let found = examine_in(&at(imds.endpoint()), &[]).await;
    found.says("metadata", "ok", "instance i-1, us-east-1, local-ipv4 127.0.3.4");
    assert!(
        !found.checks.iter().any(|check| check["name"] == "metadata-group"),
        "no agent, no group: {found:?}"
    );
    let agents = ["--local-llamacpp-addr", "aws:metadata:local-ipv4:1"];
    let found = examine_in(&at(imds.endpoint()), &agents).await;
    found.says("metadata-group", "warn", "set InstanceMetadataTags to enabled");
    found.says("llamacpp", "fail", "cannot connect to llama.cpp at 127.0.3.4:1");
    let group = [("aws:autoscaling:groupName".to_owned(), "gpu".to_owned())];
    imds.change(|metadata| metadata.tags = Some(group.into()));
    examine_in(&at(imds.endpoint()), &agents).await.says(
        "metadata-group",
        "ok",
        "of the Auto Scaling group gpu",
    );
    let (_silent, address) = silent().await;
    let found = examine_in(&at(format!("http://{address}")), &agents).await;
    found.says("metadata", "fail", "hop limit must be 2");
    found.says("llamacpp", "fail", "mend --local-llamacpp-addr");
}

#[tokio::test]
async fn files_are_read_as_the_balancer_reads_them() {
    let folder = Folder::new();
    let own = |path: &std::path::Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let token = folder.write("token", "sesame\n");
    let keys = folder
        .write("keys", "alice sha256:0000000000000000000000000000000000000000000000000000000000000000\n");
    Identity::new().install(&folder);
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    own(&token, 0o640);
    own(&key, 0o600);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let names = ["--management-token-file", "--api-keys-file", "--tls-cert", "--tls-key", "--state-dir"];
    let paths = [text(&token), text(&keys), text(&cert), text(&key), text(folder.as_ref())];
    let given = |paths: &[String; 5]| -> Vec<String> {
        names.iter().zip(paths).flat_map(|(name, path)| [(*name).to_owned(), path.clone()]).collect()
    };
    let look = async |paths: &[String; 5]| {
        let given = given(paths);
        examine(&given.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let found = look(&paths).await;
    for name in ["token-file", "api-keys", "tls", "state-dir"] {
        assert_eq!(found.of(name).0, "ok", "{found:?}");
    }
    assert_eq!(found.code, Some(0));
    assert!(!std::fs::read_dir(&folder).unwrap().any(|it| text(&it.unwrap().path()).contains("doctor")));

    own(&token, 0o644);
    own(&key, 0o644);
    let found = look(&paths).await;
    found.says("token-file", "warn", "everybody on this machine may read the token");
    found.says("token-file", "warn", &format!("; chmod o= {}", text(&token)));
    found.says("tls-key", "warn", "chmod o=");

    let mut wrong = paths.clone();
    wrong[0] = text(&folder.path("none"));
    wrong[1] = text(&token);
    wrong[4] = text(&folder.path("none"));
    let found = look(&wrong).await;
    found.says("token-file", "fail", "cannot be read (No such file or directory");
    found.says("api-keys", "fail", "line 1: it is not a name and a hash; write NAME sha256:HEX");
    found.says("state-dir", "fail", "cannot be written to (No such file or directory");

    Identity::with(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)).install(&folder);
    look(&paths).await.says("tls", "fail", "has expired, so clients refuse it; renew it");
    folder.write("cert.pem", "nonsense");
    look(&paths).await.says("tls", "fail", "holds no certificate");
}

#[tokio::test]
async fn limits_that_are_too_low_are_said() {
    // The machine's own hard limit may be any.
    let script = "ulimit -n 1024 && exec \"$@\"";
    let limited = ["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_paddock"), "doctor", "--json"];
    let words = [&limited[..], &["--asg-name", "gpu", "--max-connections", "100"]].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let found = examined(Program::spawn(&words)).await;
    found.says(
        "open-files",
        "warn",
        "1024 may be open here, and 100 connections need 4700; raise the hard limit",
    );
    let found = examine(&["--asg-name", "gpu", "--max-buffered-bytes", "4000GiB"]).await;
    found.says("memory", "warn", "give --max-buffered-bytes ");
    found.says("aws", "fail", "AWS");
    let found = examine(&["--asg-name", "gpu", "--max-buffered-bytes", "1MiB"]).await;
    found.says("memory", "ok", "of which requests that wait may take 1 MiB");
}

#[tokio::test]
async fn the_balancers_file_is_taken_and_keys_of_others_are_passed_over() {
    let folder = Folder::new();
    let settings = "management-addr = \"127.0.0.1:1\"\nidle-timeout = \"5m\"\n\
                    command = [\"llama-server\", \"--port\", \"{port}\"]\n";
    let file = folder.write("paddock.toml", settings);
    let file = file.to_str().unwrap();
    let found = examine(&["--config", file]).await;
    found.says("management", "fail", "cannot connect");
    let found = examine(&["--config", file, "--management-addr", "127.0.0.2:1"]).await;
    let subjects: Vec<&str> = found.checks.iter().filter_map(|check| check["subject"].as_str()).collect();
    assert!(subjects.contains(&"127.0.0.2:1") && !subjects.contains(&"127.0.0.1:1"), "{subjects:?}");
    let unknown = folder.write("unknown.toml", "idle-timout = \"5m\"\n");
    for (words, says) in [
        (&["--config", unknown.to_str().unwrap()][..], "has the unknown key 'idle-timout'"),
        (&["--management-addr", "127.0.0.1:0"], "--management-addr: '127.0.0.1:0'"),
        (&["--asg-name", ""], "--asg-name: ''"),
        (
            &["--management-token", "a", "--management-token-file", "b"],
            "--management-token: --management-token-file is given too",
        ),
        (&["--tls-cert", "x"], "needs its private key; give --tls-key"),
        (&["--tls-key", "x"], "needs its certificate; give --tls-cert"),
        (&["--idle-timeout", "5m"], "--idle-timeout: there is no such flag"),
    ] {
        let mut command = paddock();
        command.arg("doctor").args(words);
        let told = tokio::task::spawn_blocking(move || complaint(&mut command, 2)).await.unwrap();
        assert!(told.contains(says), "{told}");
    }
}
