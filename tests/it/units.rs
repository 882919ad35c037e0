//! What starts the program without a person: systemd's units, containers, the outputs of the Terraform module, and what the
//! documents beside them show. Each line is given to the program itself, with `--check`.

use std::fs;
use std::path::{Path, PathBuf};

use paddock::cli;
use serde_json::Value;

use crate::check;
use crate::cli::paddock;
use crate::documents::{PROGRAMS, blocks, root};
use crate::support::program::IMDS_ENDPOINT;

const PROGRAM: &str = "/usr/local/bin/paddock";

/// Other programs that units start, and where their sources are.
const SCRIPTS: (&str, &str) = ("/usr/local/lib/paddock/", "infra/boot");
const OTHERS: [&str; 3] = [
    "/usr/local/bin/llama-server",
    "/bin/sh",
    "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl",
];

/// What the settings of an instance say, as systemd's `EnvironmentFile=` reads them.
const SETTINGS: [(&str, &[(&str, &str)]); 2] = [
    (
        "balancer",
        &[
            ("PADDOCK_ASG_NAME", "paddock-spot,paddock-on-demand"),
            ("PADDOCK_MAX_BUFFERED_BYTES", "96MiB"),
            ("PADDOCK_IDLE_TIMEOUT", "5m"),
            ("PADDOCK_CLOUDWATCH_NAMESPACE", "Paddock"),
            ("PADDOCK_MANAGEMENT_DASHBOARD_ENABLE", "true"),
            ("PADDOCK_PRICE_PER_HOUR", "0.42,0.8048"),
            ("PADDOCK_MAX_COST_PER_DAY", "12"),
        ],
    ),
    (
        "agent",
        &[
            ("PADDOCK_MANAGEMENT_ADDR", "10.0.0.5:8085"),
            ("PADDOCK_ORPHAN_TIMEOUT", "15m"),
            ("PADDOCK_LAUNCHING_HOOK", "launch"),
        ],
    ),
];

fn files(below: &str, is_wanted: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            match path.is_dir() {
                true if !is_hidden => walk(&path, found),
                true => {}
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), &mut found);
    found.retain(|path| is_wanted(path));
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap().replace("\\\n", " ")
}

/// The program reads the line, and finds nothing wrong with it. Files are there, as an instance has them.
fn is_accepted(place: &Path, words: &[&str]) {
    let folder = check::folder();
    let folder_path = folder.as_ref().to_str().unwrap();
    let [role, rest @ ..] = words else { panic!("{}: a line without a role", place.display()) };
    let settings = SETTINGS.iter().find(|(of, _)| of == role);
    let (_, settings) = settings.unwrap_or_else(|| panic!("{}: who is {role}?", place.display()));
    let given = |name: &str| {
        let flag = format!("--{}", name.trim_start_matches("PADDOCK_").replace('_', "-").to_lowercase());
        rest.iter().any(|word| word.split('=').next() == Some(flag.as_str()) || *word == "--fleet=none")
    };
    let mut command = paddock();
    command.args([role, &"--check"]).env_remove("AWS_EC2_METADATA_DISABLED");
    command.env(IMDS_ENDPOINT, "http://127.0.0.1:9");
    command.envs(settings.iter().copied().filter(|(name, _)| !given(name)));
    for word in rest {
        let word = word
            .replace("%d/", &format!("{folder_path}/"))
            .replace("/etc/paddock/", &format!("{folder_path}/"));
        command.arg(word.replace("/run/secrets/management_token", &format!("{folder_path}/token")));
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}: {told}", place.display(), words.join(" "));
}

#[test]
fn every_unit_starts_what_there_is() {
    let is_unit = |path: &Path| path.extension().is_some_and(|end| end == "service");
    let units = files("infra/systemd", is_unit);
    let mut roles = Vec::new();
    for unit in &units {
        let text = text(unit);
        let started = text.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('='));
        let started: Vec<&str> = started.map(|(_, command)| command).collect();
        assert!(!started.is_empty(), "{}: a unit that starts nothing", unit.display());
        for command in started {
            let command = command.trim_start_matches(['-', '+', '!', '@', ':']);
            let words: Vec<&str> = command.split_whitespace().collect();
            match (words[0], words[0].strip_prefix(SCRIPTS.0)) {
                (PROGRAM, _) => {
                    roles.push(words[1].to_owned());
                    is_accepted(unit, &words[1..]);
                }
                (_, Some(script)) => {
                    let script = root().join(SCRIPTS.1).join(script);
                    assert!(script.is_file(), "{}: there is no {}", unit.display(), script.display());
                }
                (program, None) => assert!(OTHERS.contains(&program), "{}: {program}?", unit.display()),
            }
        }
    }
    roles.sort();
    assert_eq!(roles, ["agent", "balancer"], "of {} units", units.len());
}

#[test]
fn containers_start_the_program_as_it_is() {
    let file = root().join("infra/container/Containerfile");
    let lists = text(&file);
    let list = |instruction: &str| -> Vec<String> {
        let line = lists.lines().find_map(|line| line.strip_prefix(instruction));
        let list: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("no {instruction}"))).unwrap();
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let (entry, words) = (list("ENTRYPOINT "), list("CMD "));
    assert_eq!(entry, [PROGRAM]);
    assert!(
        matches!(cli::read([entry, words].concat()), Err(cli::Stop::Help(_))),
        "without words it tells its use"
    );

    let compose = root().join("infra/container/compose.yaml");
    let commands = listed_commands(&text(&compose));
    let ours: Vec<_> = commands.iter().filter(|words| !words[0].starts_with('-')).collect();
    for words in &ours {
        is_accepted(&compose, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut roles: Vec<_> = ours.iter().map(|words| &*words[0]).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["agent", "balancer"]);
}

/// What stands below each `command:`, a quoted word on each line.
fn listed_commands(yaml: &str) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut is_within = false;
    for line in yaml.lines().map(str::trim) {
        match line.strip_prefix("- ") {
            Some(word) if is_within => commands.last_mut().unwrap().push(word.trim_matches('"').to_owned()),
            _ => is_within = line == "command:",
        }
        if line == "command:" {
            commands.push(Vec::new());
        }
    }
    commands
}

/// Lines that are for people are read by the program's parser alone.
fn is_understood(place: &Path, words: &[String]) {
    let folder = check::folder();
    let moved = words.iter().map(|word| match word.strip_prefix("/etc/paddock/") {
        Some(name) => folder.path(name).to_str().unwrap().to_owned(),
        None => word.clone(),
    });
    match cli::read(moved) {
        Ok(_) | Err(cli::Stop::Help(_)) => {}
        // Whoever runs this may have forbidden the metadata: then the line was understood that far.
        Err(stop) if stop.to_string().contains("AWS_EC2_METADATA_DISABLED forbids") => {}
        Err(stop) => panic!("{}: {}: {stop}", place.display(), words.join(" ")),
    }
}

#[test]
fn every_command_line_beside_the_units_is_understood() {
    let mut seen = 0;
    let is_read_me = |path: &Path| path.file_name().is_some_and(|name| name == "README.md");
    let documents = [files("infra", is_read_me), files("terraform", is_read_me)].concat();
    assert!(documents.len() > 2, "{documents:?}");
    for document in &documents {
        let lines = blocks(document.strip_prefix(root()).unwrap().to_str().unwrap());
        for line in lines.iter().flat_map(|block| &block.lines) {
            let words: Vec<&str> = line.split(" #").next().unwrap_or_default().split_whitespace().collect();
            let start = words.iter().position(|word| PROGRAMS.contains(word));
            let is_first = start == Some(0) || words.starts_with(&["docker", "run"]);
            if let Some(start) = start.filter(|_| is_first) {
                seen += 1;
                is_understood(document, &words[start..].iter().map(ToString::to_string).collect::<Vec<_>>());
            }
        }
    }
    assert!(seen > 0, "the documents' commands were found");
    let is_outputs = |path: &Path| path.file_name().is_some_and(|name| name == "outputs.tf");
    let mut seen = 0;
    for outputs in files("terraform", is_outputs) {
        let text = text(&outputs).replace("\\\"", "'");
        for literal in text.split('"').skip(1).step_by(2) {
            // In front of it a setting may stand.
            let line = literal.rsplit_once("' ").map_or(literal, |(_, line)| line);
            if line.starts_with("paddock ") {
                seen += 1;
                let words: Vec<String> = filled(line).split_whitespace().map(str::to_owned).collect();
                is_understood(&outputs, &words);
            }
        }
    }
    assert!(seen > 0, "the module's command was found");
}

/// The literal with an address, or a port, in place of what Terraform fills in.
fn filled(literal: &str) -> String {
    let mut parts = literal.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let rest = part.split_once('}').map_or("", |(_, rest)| rest);
        let address = if all.ends_with(':') { "8085" } else { "127.0.0.1:8085" };
        all + address + rest
    })
}
