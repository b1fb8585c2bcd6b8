//! The effective configuration as TOML, with the origin of each value that is not a default.

use std::fmt::Write as _;

use serde::Serialize;

use super::{ConfigError, Loaded};

/// Prints the configuration as TOML that can be read back, secrets masked as `***`.
///
/// # Errors
/// When a value has no TOML form.
pub fn effective<T: Serialize>(loaded: &Loaded<T>) -> Result<String, ConfigError> {
    let table = toml::Table::try_from(&loaded.value)?;
    let mut out = String::new();
    print("", &table, loaded, &mut out);
    Ok(out)
}

fn print<T>(prefix: &str, table: &toml::Table, loaded: &Loaded<T>, out: &mut String) {
    let path = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    for (key, value) in table.iter().filter(|(_, v)| !v.is_table()) {
        let origin = loaded.origins.get(&path(key)).map(|o| format!("  # from {o}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key} = {value}{origin}");
    }
    for (key, value) in table {
        if let toml::Value::Table(inner) = value {
            let section = path(key);
            let _ = writeln!(out, "\n[{section}]");
            print(&section, inner, loaded, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::{ConfigError, Layers, Secret, ServerConfig, TelemetryConfig};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        token: Secret<String>,
        optional: Option<String>,
        server: ServerConfig,
        telemetry: TelemetryConfig,
    }

    fn defaults() -> Sample {
        Sample {
            name: "mesh".into(),
            token: Secret::default(),
            optional: None,
            server: ServerConfig::on_loopback(7100),
            telemetry: TelemetryConfig::default(),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_layer_wins_over_the_one_below_and_leaves_the_rest_alone() {
        let toml = file(
            "name = \"file\"\n[server.limits]\nunary_timeout = \"2s\"\nstreams = 7\n[telemetry]\nlog_filter = \"warn\"",
        );
        let loaded = Layers::new()
            .file(toml.path())
            .environment(
                [
                    variable("FOUNDRY_SERVER__LIMITS__STREAMS", "8"),
                    variable("FOUNDRY_NAME", "env"),
                    variable("PATH", "/bin"),
                ],
                &[],
            )
            .flag("name", "flag")
            .load(&defaults())
            .unwrap();
        let sample = loaded.value;
        assert_eq!(sample.name, "flag");
        assert_eq!(sample.server.limits.streams, 8);
        assert_eq!(sample.server.limits.unary_timeout, std::time::Duration::from_secs(2));
        assert_eq!(sample.server.listen.port(), 7100, "a section's other defaults stay the service's own");
        assert_eq!(sample.telemetry.log_filter, "warn");
        assert_eq!(loaded.origins["name"], "a flag");
        assert_eq!(loaded.origins["server.limits.streams"], "the environment");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_origin_and_neighbours() {
        let toml = file("[server]\nlsten = \"127.0.0.1:1\"");
        let error = Layers::new().file(toml.path()).load(&defaults()).unwrap_err().to_string();
        assert!(error.contains("`server.lsten`") && error.contains("limits, listen"), "{error}");

        let error = Layers::new()
            .environment([variable("FOUNDRY_SERVER__LIMIT__STREAMS", "8")], &[])
            .load(&defaults())
            .unwrap_err();
        assert!(matches!(error, ConfigError::UnknownKey { ref key, .. } if key == "server.limit"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let error = Layers::new()
            .flag("server.limits.unary_timeout", "soon")
            .load(&defaults())
            .unwrap_err()
            .to_string();
        assert!(error.contains("unary_timeout") && error.contains("soon"), "{error}");
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let loaded = Layers::new()
            .environment(
                [variable("FOUNDRY_TOKEN", "x"), variable("FOUNDRY_NAME", "123")],
                &["FOUNDRY_TOKEN"],
            )
            .load(&defaults())
            .unwrap();
        assert_eq!(loaded.value.token, Secret::default());
        assert_eq!(loaded.value.name, "123");
    }

    #[test]
    fn the_effective_configuration_masks_secrets_and_reads_back() {
        let loaded = Layers::new().flag("token", "hunter2").flag("optional", "o").load(&defaults()).unwrap();
        let text = effective(&loaded).unwrap();
        assert!(text.contains("token = \"***\"  # from a flag"), "{text}");
        assert!(!text.contains("hunter2"));
        let again = Layers::new().file(file(&text).path()).load(&defaults()).unwrap();
        assert_eq!(again.value.server, loaded.value.server);
    }
}
