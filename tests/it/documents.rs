//! Every command line in the documents is one that works, and the IAM policies allow what the program calls, and no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use paddock::cli;
use serde_json::Value;

use crate::check;

/// Beside all of docs/.
const AT_THE_TOP: [&str; 2] = ["README.md", "CONTRIBUTING.md"];
const GROUPS: &str = "docs/aws-groups.md";
const ACTIONS: &str = "terraform/actions.json";

/// Where people put the program.
pub const PROGRAMS: [&str; 3] = ["paddock", "target/release/paddock", "/usr/local/bin/paddock"];

/// Services whose command lines the documents show.
const AWS_SERVICES: [&str; 6] = ["autoscaling", "cloudwatch", "ec2", "iam", "service-quotas", "ssm"];

/// What `LaunchInstances` needs beside itself (EC2 Auto Scaling User Guide, "Launching instances with synchronous
/// provisioning"): AWS calls it on the balancer's behalf.
const CALLED_BY_AWS: [&str; 2] = ["ec2:CreateFleet", "ec2:DescribeLaunchTemplateVersions"];

/// What `paddock doctor` asks AWS, which must be among what the others call: it runs with their policies.
pub const DOCTOR_CALLS: [&str; 1] = ["src/doctor"];

/// Where the balancer calls AWS, and where the agent does.
const BALANCER_CALLS: [&str; 2] = ["src/fleet", "src/metrics"];
const AGENT_CALLS: [&str; 1] = ["src/agent"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that a reader may follow.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> = AT_THE_TOP.map(str::to_owned).into();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        documents.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    documents.sort();
    documents
}

/// A fenced block.
pub struct Block {
    language: String,
    /// Whole lines: a backslash at the end joins the next.
    pub lines: Vec<String>,
}

pub fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(document)).unwrap().replace("\\\n", " ");
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), blocks.last_mut()) {
            (Some(language), _) if !is_code => {
                blocks.push(Block { language: language.trim().to_owned(), lines: Vec::new() });
                is_code = true;
            }
            (Some(_), _) => is_code = false,
            (None, Some(block)) if is_code => block.lines.push(line.to_owned()),
            (None, _) => {}
        }
    }
    assert!(!is_code, "{document}: a block does not end");
    blocks
}

/// The command lines of the document, without comments: those of a shell, and what units start.
fn commands(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for block in blocks(document) {
        let lines = block.lines.iter().map(|line| line.split(" #").next().unwrap_or_default().trim());
        match block.language.as_str() {
            "" | "sh" => commands.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned)),
            "ini" => {
                let started: Vec<&str> = lines.filter_map(|line| line.strip_prefix("ExecStart=")).collect();
                assert!(!started.is_empty(), "{document}: a unit that starts nothing");
                commands.extend(started.into_iter().map(str::to_owned));
            }
            "hcl" | "json" | "text" | "toml" | "yaml" => {}
            language => panic!("{document}: nobody checks blocks of '{language}'"),
        }
    }
    commands
}

#[test]
fn every_command_line_is_understood() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = 0;
    for document in &documents() {
        for command in commands(document) {
            seen += 1;
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| is_setting(word)).collect();
            let (is_root, words) = match words.as_slice() {
                ["sudo", words @ ..] => (true, words),
                words => (false, words),
            };
            match words {
                [program, ..] if PROGRAMS.contains(program) => understood(document, words),
                ["systemd-run", rest @ ..] => {
                    let is_option = |word: &&&str| word.starts_with("--");
                    let program: Vec<&str> = rest.iter().skip_while(is_option).copied().collect();
                    understood(document, &program);
                }
                ["make", target] => {
                    assert!(makefile.contains(&format!("\n{target}:")), "{document}: {command}");
                }
                ["systemctl", "enable" | "restart" | "start" | "status" | "stop", units @ ..] => {
                    let units = units.iter().filter(|word| !word.starts_with("--"));
                    let is_unit = |unit: &&str| unit.starts_with("paddock") && unit.contains('.');
                    assert!(units.copied().all(|unit| is_unit(&unit)), "{document}: {command}");
                }
                ["sysctl", "-w", setting] => {
                    assert!(setting.starts_with("net.ipv4."), "{document}: {command}");
                }
                ["cargo", "build" | "check" | "bench" | "test" | "fuzz" | "install", ..]
                | ["cargo", "nextest", "run", ..] => {}
                ["docker", "build", "--target", "program", rest @ ..] => {
                    let file = rest.iter().skip_while(|word| **word != "--file").nth(1);
                    let is_there = file.is_some_and(|file| root().join(file).is_file());
                    assert!(is_there, "{document}: {command}");
                }
                ["terraform", "init" | "apply" | "destroy", ..] | ["journalctl", "-u", ..] => {}
                ["curl", url, ..] => {
                    let is_known = ["http://127.0.0.1:808", "http://ENDPOINT:8080/"];
                    assert!(is_known.iter().any(|start| url.starts_with(start)), "{document}: {command}")
                }
                // Its port has no default that lasts, so each line names it.
                ["llama-server", options @ ..] => {
                    let is_sound = options.contains(&"--port") && are_options(options);
                    assert!(is_sound, "{document}: {command}");
                }
                [script, ..] if is_root && script.starts_with("/usr/local/lib/paddock/") => {
                    let script = script.replace("/usr/local/lib/paddock/", "infra/boot/");
                    assert!(root().join(script).is_file(), "{document}: {command}");
                }
                ["aws", service, operation, options @ ..] => {
                    let is_sound = AWS_SERVICES.contains(service) && is_kebab(operation);
                    assert!(is_sound && are_options(options), "{document}: {command}");
                }
                _ => panic!("{document}: is this a command line? {command}"),
            }
        }
    }
    assert!(seen > 30, "the documents' commands were found: {seen}");
}

/// `NAME=value` in front of a command.
fn is_setting(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

fn is_kebab(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Long options, each given once, with a value or without.
fn are_options(words: &[&str]) -> bool {
    let mut seen = BTreeSet::new();
    let mut may_be_value = false;
    words.iter().all(|word| match word.strip_prefix("--") {
        Some(name) => {
            may_be_value = true;
            is_kebab(name) && seen.insert(name)
        }
        None => std::mem::take(&mut may_be_value) && !word.contains(['<', '>', '\'', '"', '\\']),
    })
}

/// The program's own parser takes it; the files are there, as the reader would have made them.
fn understood(document: &str, words: &[&str]) {
    let folder = check::folder();
    let moved = |word: &&str| match word.strip_prefix("/etc/paddock/") {
        Some(name) => folder.path(name).to_str().unwrap().to_owned(),
        None => (*word).to_owned(),
    };
    let words: Vec<String> = words.iter().map(moved).collect();
    // The balancer asks for such an address before it starts, and here is nobody to ask.
    let asks = words.get(1).is_some_and(|word| word == "balancer")
        && words.iter().any(|word| word.contains("aws:metadata"));
    assert!(!asks, "{document}: write the balancer's address out");
    match cli::read(&words) {
        Ok(_) => {}
        // Whoever runs this may have forbidden the metadata: then the line was understood that far.
        Err(stop) if stop.to_string().contains("AWS_EC2_METADATA_DISABLED forbids") => {}
        Err(stop) => panic!("{document}: {}: {stop}", words.join(" ")),
    }
}

#[test]
fn every_file_for_config_is_understood() {
    let folder = check::folder();
    let mut seen = 0;
    for document in documents() {
        for block in blocks(&document).into_iter().filter(|block| block.language == "toml") {
            seen += 1;
            let text =
                block.lines.join("\n").replace("/etc/paddock/", &folder.path("").display().to_string());
            let file = folder.write("shown.toml", &text);
            if let Err(stop) =
                cli::read(["paddock", "balancer", "--check", "--config", file.to_str().unwrap()])
            {
                panic!("{document}: {stop}: {text}");
            }
        }
    }
    assert!(seen > 0, "a file was found");
}

/// The index names each of them, and says what it is for.
#[test]
fn the_index_names_every_document() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for document in documents() {
        let Some(name) = document.strip_prefix("docs/").filter(|name| *name != "README.md") else { continue };
        assert!(index.contains(&format!("]({name})")), "docs/README.md: it does not name {name}");
    }
}

/// One statement of a policy.
#[derive(Debug)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
    condition: Value,
}

/// The policies of the document, in its order: the balancer's, the agent's.
fn policies() -> [Vec<Statement>; 2] {
    let documents = blocks(GROUPS).into_iter().filter(|block| block.language == "json");
    let documents = documents.map(|block| serde_json::from_str(&block.lines.join("\n")).unwrap());
    let policies: Vec<Vec<Statement>> = documents
        .filter(|document: &Value| document.get("Statement").is_some())
        .map(|policy| {
            assert_eq!(policy["Version"], "2012-10-17");
            policy["Statement"].as_array().unwrap().iter().map(statement).collect()
        })
        .collect();
    policies.try_into().unwrap_or_else(|policies: Vec<_>| panic!("{} policies", policies.len()))
}

fn statement(written: &Value) -> Statement {
    let owned = |word: &Value| word.as_str().unwrap().to_owned();
    let words = |field: &str| -> Vec<String> {
        let value = &written[field];
        value.as_array().map_or_else(|| vec![owned(value)], |words| words.iter().map(owned).collect())
    };
    assert_eq!(written["Effect"], "Allow", "{written}");
    let sid = written["Sid"].as_str().unwrap();
    assert!(sid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{sid}: IAM takes letters and digits");
    Statement {
        actions: words("Action"),
        resources: words("Resource"),
        condition: written.get("Condition").cloned().unwrap_or_default(),
    }
}

/// The IAM actions of all calls in these files, by the SDK's methods.
pub fn called(below: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in below.iter().flat_map(|path| rust_files(&root().join(path))) {
        let code: String = fs::read_to_string(&file).unwrap().split_whitespace().collect();
        for client in ["client.", "reader.", "writer."] {
            for (at, _) in code.match_indices(client) {
                let rest = &code[at + client.len()..];
                let Some((method, _)) = rest.split_once("()") else { continue };
                // Operations of these services have several words; nothing else that a client is asked for has.
                let is_operation = method.contains('_')
                    && !method.starts_with("try_")
                    && method.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_operation {
                    found.insert(format!("{}:{}", service(&code, &file), camel(method)));
                }
            }
        }
    }
    found
}

fn service(code: &str, file: &Path) -> &'static str {
    match (code.contains("aws_sdk_autoscaling"), code.contains("aws_sdk_cloudwatch")) {
        (true, false) => "autoscaling",
        (false, true) => "cloudwatch",
        (true, true) | (false, false) => panic!("{}: which service does it call?", file.display()),
    }
}

fn camel(method: &str) -> String {
    let words = method.split('_').filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    if below.is_file() {
        return vec![below.to_owned()];
    }
    let entries = fs::read_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths =
        paths.filter(|path| path.file_name().is_none_or(|name| name != "tests.rs" && name != "tests"));
    paths
        .filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"))
        .flat_map(|path| rust_files(&path))
        .collect()
}

fn allowed(policy: &[Statement]) -> BTreeSet<String> {
    policy.iter().flat_map(|statement| statement.actions.iter().cloned()).collect()
}

/// What the program calls, the balancer's and the agent's: the list that the Terraform module's own tests read, too.
pub fn listed() -> [BTreeSet<String>; 2] {
    let text = fs::read_to_string(root().join(ACTIONS)).unwrap();
    let lists: Value = serde_json::from_str(&text).unwrap();
    ["balancer", "agent"].map(|role| {
        let list: Vec<String> = serde_json::from_value(lists[role].clone()).unwrap();
        assert!(list.is_sorted(), "{ACTIONS}: {role}: sort it");
        let set: BTreeSet<String> = list.iter().cloned().collect();
        assert_eq!(set.len(), list.len(), "{ACTIONS}: {role}: one stands there twice");
        set
    })
}

#[test]
fn the_list_of_actions_is_what_the_program_calls() {
    let [balancer, agent] = listed();
    let mut needed = called(&BALANCER_CALLS);
    assert!(needed.len() > 5, "the balancer's calls were found: {needed:?}");
    needed.extend(CALLED_BY_AWS.map(str::to_owned));
    assert_eq!(balancer, needed, "{ACTIONS}, and what the balancer calls");
    let needed = called(&AGENT_CALLS);
    assert!(needed.len() > 2, "the agent's calls were found: {needed:?}");
    assert_eq!(agent, needed, "{ACTIONS}, and what the agent calls");
}

#[test]
fn the_policies_allow_what_is_called_and_no_more() {
    let documented = policies().map(|policy| allowed(&policy));
    assert_eq!(documented, listed(), "{GROUPS}, and {ACTIONS}");
}

/// So no call escapes the policies' test, and no message asks for a permission that the policies do not know.
#[test]
fn nothing_else_in_the_program_calls_aws() {
    let known = called(&[&BALANCER_CALLS[..], &AGENT_CALLS[..]].concat());
    let is_caller = |file: &Path| {
        let mut callers = BALANCER_CALLS.iter().chain(&AGENT_CALLS).chain(&DOCTOR_CALLS);
        callers.any(|caller| file.starts_with(root().join(caller)))
    };
    let mut named = BTreeSet::new();
    for file in rust_files(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        // Its errors are those of every service.
        let is_of_all = file.ends_with("src/aws.rs");
        assert!(
            is_caller(&file) || is_of_all || !text.contains("aws_sdk_"),
            "{}: it calls AWS",
            file.display()
        );
        let quoted = text
            .split('"')
            .filter_map(|part| part.split_once(':').map(|(service, name)| (part, service, name)));
        for (part, service, name) in quoted {
            let is_action =
                AWS_SERVICES.contains(&service) && name.bytes().all(|byte| byte.is_ascii_alphabetic());
            named.extend(is_action.then(|| part.to_owned()));
        }
    }
    assert!(named.len() > 5, "the actions that messages name were found: {named:?}");
    assert!(
        named.is_subset(&known),
        "named, and not called: {:?}",
        named.difference(&known).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_that_changes_anything_is_allowed_without_a_condition() {
    for statement in policies().iter().flatten() {
        for action in &statement.actions {
            assert!(!action.contains('*'), "{action}: write each action out");
            let (_, name) = action.split_once(':').unwrap();
            let has_condition = statement.condition.as_object().is_some_and(|keys| !keys.is_empty());
            assert!(name.starts_with("Describe") || has_condition, "{action}: it has no condition");
            let is_of_groups = action.starts_with("autoscaling:") && !name.starts_with("Describe");
            let is_narrow = |arn: &String| arn.contains(":autoScalingGroupName/paddock-");
            if is_of_groups {
                assert!(statement.resources.iter().all(is_narrow), "{action}: it is for groups of a name");
                let tag = &statement.condition["StringEquals"]["autoscaling:ResourceTag/app"];
                assert_eq!(*tag, "paddock", "{action}: it is for groups with a tag");
            }
            if name.contains("Tags") {
                let keys = &statement.condition["ForAllValues:StringEquals"]["aws:TagKeys"];
                let claim = fs::read_to_string(root().join("src/fleet/asg/claim.rs")).unwrap();
                assert!(claim.contains(&format!("\"{}\"", keys[0].as_str().unwrap())), "{action}: {keys}");
                assert_eq!(keys.as_array().unwrap().len(), 1, "{action}: for the claim's key alone");
                // Without it a call without keys would do.
                assert_eq!(statement.condition["Null"]["aws:TagKeys"], "false", "{action}");
            }
        }
    }
}

#[test]
fn the_groups_that_are_made_are_those_that_the_policies_and_the_balancer_want() {
    let commands = commands(GROUPS);
    let of = |operation: &str| -> Vec<&String> {
        commands.iter().filter(|command| command.contains(&format!(" {operation} "))).collect()
    };
    let groups = of("create-auto-scaling-group");
    assert_eq!(groups.len(), 2);
    for group in groups {
        for setting in ["--min-size 0 ", "--new-instances-protected-from-scale-in", "Key=app,Value=paddock,"]
        {
            assert!(group.contains(setting), "{setting}: {group}");
        }
        let (_, rest) = group.split_once("--auto-scaling-group-name ").unwrap();
        let name = rest.split_whitespace().next().unwrap();
        assert!(name.starts_with("paddock-"), "{name}");
        for (operation, setting) in [
            ("suspend-processes", "--scaling-processes AZRebalance"),
            ("put-lifecycle-hook", "--lifecycle-transition autoscaling:EC2_INSTANCE_TERMINATING"),
            ("balancer", "--asg-name"),
        ] {
            let is_for_it =
                |command: &&String| command.contains(&format!(" {name} ")) && command.contains(setting);
            assert!(of(operation).into_iter().any(|command| is_for_it(&command)), "{operation} of {name}");
        }
    }
}
