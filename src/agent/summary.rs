//! What an agent will do, and what it will never do, in a few lines.

use super::{AgentConfig, words};

/// One line for each matter, what is watched first.
#[must_use]
pub fn summary(config: &AgentConfig) -> Vec<String> {
    let mut lines = vec![
        format!(
            "paddock {}: watching llama.cpp on {} every {}, known to balancers as {}",
            env!("CARGO_PKG_VERSION"),
            config.server,
            words(config.interval),
            config.external
        ),
        format!("reports: {}", reports(config)),
    ];
    lines.extend(config.orphan_timeout.map(|timeout| {
        format!(
            "ends: this instance, and shrinks its group with it, after {} without any balancer and without work",
            words(timeout)
        )
    }));
    lines.extend(config.launching_hook.as_ref().map(|hook| {
        format!(
            "completes: the launching hook {hook}, into a warm pool once the model is loaded, else at once"
        )
    }));
    lines.push(match config.orphan_timeout {
        Some(_) => "never: starts or ends llama.cpp".to_owned(),
        None => "never: ends this machine; starts or ends llama.cpp".to_owned(),
    });
    lines
}

fn reports(config: &AgentConfig) -> String {
    let balancers: Vec<String> = config.management.iter().map(ToString::to_string).collect();
    let token = if config.management_token.is_some() { "with a token" } else { "without a token" };
    let name = config.name.as_ref().map_or_else(String::new, |name| format!(", as {}", name.escape_debug()));
    let instance = match (&config.instance_id, &config.imds) {
        (Some(id), _) => format!(", of instance {}", id.escape_debug()),
        (None, Some(_)) => ", of the instance that the metadata names".to_owned(),
        (None, None) => String::new(),
    };
    format!("to {} {token}{name}{instance}", balancers.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::Imds;
    use crate::config::{HostPort, peer};

    fn at(text: &str) -> HostPort {
        peer(text).unwrap()
    }

    fn plain() -> AgentConfig {
        AgentConfig {
            server: at("127.0.0.1:8088"),
            external: at("10.0.0.7:8088"),
            api_key: Some("sesame".to_owned()),
            interval: Duration::from_secs(1),
            name: None,
            instance_id: None,
            management: vec![at("10.0.0.5:8085")],
            management_token: None,
            imds: None,
            orphan_timeout: None,
            launching_hook: None,
        }
    }

    /// Without its first word, which is the version's.
    fn told(config: &AgentConfig) -> String {
        let lines = summary(config);
        assert!(lines.iter().all(|line| !line.contains('\n') && line.len() < 200), "{lines:?}");
        lines.join("\n").replace(&format!("paddock {}: ", env!("CARGO_PKG_VERSION")), "")
    }

    #[test]
    fn an_agent_that_only_reports() {
        assert_eq!(
            told(&plain()),
            "watching llama.cpp on 127.0.0.1:8088 every 1s, known to balancers as 10.0.0.7:8088\n\
             reports: to 10.0.0.5:8085 without a token\n\
             never: ends this machine; starts or ends llama.cpp"
        );
    }

    #[test]
    fn one_of_an_instance_says_when_it_ends_it_and_no_secret() {
        let config = AgentConfig {
            interval: Duration::from_millis(1500),
            name: Some("gpu\n1".to_owned()),
            management: vec![at("10.0.0.5:8085"), at("10.0.0.6:8085")],
            management_token: Some("sesame".to_owned()),
            imds: Some(Imds::from_environment()),
            orphan_timeout: Some(Duration::from_secs(900)),
            launching_hook: Some("prepare".to_owned()),
            ..plain()
        };
        let lines = told(&config);
        assert_eq!(
            lines,
            "watching llama.cpp on 127.0.0.1:8088 every 1s 500ms, known to balancers as 10.0.0.7:8088\n\
             reports: to 10.0.0.5:8085, 10.0.0.6:8085 with a token, as gpu\\n1, of the instance that the metadata names\n\
             ends: this instance, and shrinks its group with it, after 15m without any balancer and without work\n\
             completes: the launching hook prepare, into a warm pool once the model is loaded, else at once\n\
             never: starts or ends llama.cpp"
        );
        let named = told(&AgentConfig { instance_id: Some("i-1".to_owned()), ..config });
        assert!(named.contains("as gpu\\n1, of instance i-1\n"), "{named}");
    }
}
