//! Secrets on the command line: from standard input, from a variable, or typed without echo.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Read, Write as _};

use foundry_proto::common::v1::named_value::Content;
use foundry_proto::common::v1::{NamedValue, SecretText};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Most bytes of a secret that are read from standard input.
const MAX_SECRET: u64 = 64 << 10;

/// Reads a secret from the first line of standard input; on a terminal, prompts for it.
///
/// # Errors
/// When the input is empty.
pub fn read(what: &str) -> Result<SecretText, Failure> {
    read_from(what, "pipe it in, name a variable with --key-env, or pass --no-key")
}

/// All of standard input, such as a private key.
///
/// # Errors
/// When it is a terminal, where its lines would be shown.
pub fn whole(what: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        let failure = Failure::new(format!("no {what} given"));
        return Err(failure.next("name its file with --file, or pipe it in").exit(2));
    }
    let mut text = String::new();
    std::io::stdin().take(MAX_SECRET).read_to_string(&mut text)?;
    Ok(text)
}

/// The same as [`read`], with the other ways in which a secret can be given.
///
/// # Errors
/// When the input is empty.
pub fn read_from(what: &str, ways: &str) -> Result<SecretText, Failure> {
    let text = if std::io::stdin().is_terminal() {
        ask(what)?
    } else {
        let mut text = String::new();
        std::io::stdin().take(MAX_SECRET).read_to_string(&mut text)?;
        text
    };
    line(what, &text, ways)
}

/// The secret in a text of one line.
///
/// # Errors
/// When it is empty, or has further lines: they would be left out without a word.
pub fn line(what: &str, text: &str, ways: &str) -> Result<SecretText, Failure> {
    let value = text.trim();
    if value.is_empty() {
        return Err(Failure::new(format!("no {what} given")).next(ways).exit(2));
    }
    if let more @ 1.. = value.lines().count() - 1 {
        let lines = foundry_core::counted(i64::try_from(more).unwrap_or(i64::MAX), "further line");
        let next = format!("give the {what} alone");
        return Err(Failure::new(format!("the {what} must be one line, and the input has {lines}"))
            .next(next)
            .exit(2));
    }
    Ok(SecretText { value: value.to_owned() })
}

/// Reads a secret from an environment variable.
///
/// # Errors
/// When it is not set or empty.
pub fn variable(name: &str) -> Result<SecretText, Failure> {
    let value = std::env::var(name).unwrap_or_default().trim().to_owned();
    if value.is_empty() {
        return Err(Failure::new(format!("the variable {name} is not set or is empty")).exit(2));
    }
    Ok(SecretText { value })
}

/// Parses list options: plain entries are NAME=VALUE, secret ones NAME=VARIABLE. With `same_name`, a secret entry may
/// be a variable's name alone.
///
/// # Errors
/// When a required `=` is missing, or a variable is not set.
pub fn entries(plain: &[String], secret: &[String], same_name: bool) -> Result<Vec<NamedValue>, Failure> {
    let split = |entry: &str, option: &str| {
        let (name, value) = entry.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned())).filter(|_| !option.is_empty())
    };
    let mut all = Vec::new();
    for entry in plain {
        // The value may be a secret given by mistake: the error does not contain it.
        let (name, value) =
            split(entry, "plain").ok_or_else(|| Failure::new("expected NAME=VALUE").exit(2))?;
        all.push(NamedValue { name, content: Some(Content::Value(value)) });
    }
    for entry in secret {
        let (name, from) = match split(entry, "secret") {
            Some(found) => found,
            None if same_name && !entry.contains('=') => (entry.clone(), entry.clone()),
            None => return Err(Failure::new("expected NAME=VARIABLE").exit(2)),
        };
        all.push(NamedValue { name, content: Some(Content::Secret(variable(&from)?)) });
    }
    Ok(all)
}

/// Adds entries to a list, replacing those of the same name, and drops the entries named in `gone`.
pub fn merged(list: &[NamedValue], new: Vec<NamedValue>, gone: &[String]) -> Vec<NamedValue> {
    let replaced = |name: &str| gone.iter().any(|g| g == name) || new.iter().any(|n| n.name == name);
    let kept: Vec<_> = list.iter().filter(|old| !replaced(&old.name)).cloned().collect();
    kept.into_iter().chain(new).collect()
}

/// An entry as text for people, without the value of a secret.
pub fn shown(entry: &NamedValue) -> String {
    match &entry.content {
        Some(Content::Secret(_)) => format!("{} (secret)", entry.name),
        Some(Content::Value(value)) => format!("{}={value}", entry.name),
        None => entry.name.clone(),
    }
}

/// Disables the terminal's echo until dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> std::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        // Keys send no signals while echo is off: Ctrl-C must not leave the terminal without echo.
        hidden.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

fn ask(what: &str) -> Result<String, Failure> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "{what} (input hidden): ")?;
    let typed = {
        let hidden = Hidden::new(&terminal)?;
        typed(hidden.terminal)
    };
    writeln!(terminal)?;
    typed?.ok_or_else(|| Failure::new("cancelled").exit(2))
}

/// Reads a typed line; none after Ctrl-C.
fn typed(mut keys: impl Read) -> std::io::Result<Option<String>> {
    let (mut line, mut key) = (Vec::new(), [0]);
    loop {
        if keys.read(&mut key)? == 0 {
            break;
        }
        match key[0] {
            b'\r' | b'\n' | 4 => break,
            3 => return Ok(None),
            8 | 127 => {
                line.pop();
            }
            byte => line.push(byte),
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line_ends_at_return_is_corrected_and_can_be_cancelled() {
        let read = |bytes: &[u8]| typed(bytes).unwrap();
        assert_eq!(read(b"sk-x\x7fy\rrest"), Some("sk-y".to_owned()));
        assert_eq!(read(b"sk-\x03"), None);
        assert_eq!(read(b"sk"), Some("sk".to_owned()));
    }

    #[test]
    fn a_secret_of_more_than_one_line_is_refused_and_not_repeated() {
        assert_eq!(line("token", " abc\r\n\n", "").unwrap().value, "abc");
        let refused = line("token", "canary\nother\n", "").unwrap_err();
        assert_eq!(refused.message, "the token must be one line, and the input has 1 further line");
        assert_eq!(line("token", "\n", "pipe it in").unwrap_err().next_action, "pipe it in");
    }

    #[test]
    fn an_entry_that_is_malformed_is_not_repeated() {
        for (plain, secret) in [(&["canary".to_owned()][..], &[][..]), (&[], &["=canary".to_owned()])] {
            let failure = entries(plain, secret, true).unwrap_err();
            assert!(!failure.message.contains("canary"), "{}", failure.message);
        }
    }

    #[test]
    fn new_entries_take_the_place_of_those_with_their_names() {
        let value = |name: &str, value: &str| NamedValue {
            name: name.to_owned(),
            content: Some(Content::Value(value.to_owned())),
        };
        let list = [value("A", "1"), value("B", "2"), value("C", "3")];
        let merged = merged(&list, vec![value("B", "9")], &["C".to_owned()]);
        assert_eq!(merged, [value("A", "1"), value("B", "9")]);
    }
}
