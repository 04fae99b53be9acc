//! `cvp shell`: a prompt that takes the documented lines, and the one-shot form of operators' scripts.

use std::borrow::Cow;
use std::io::IsTerminal;

use clap::{CommandFactory, Parser};
use reedline::{DefaultCompleter, FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, Reedline, Signal};

use super::output::{Context, print_failure, print_line, usage_failure};
use super::{Cli, dispatch};
use crate::ipc::{Exit, Failure};

/// Lines of history kept.
const HISTORY_LINES: usize = 500;

/// Commands that make no sense inside a prompt, which needs a node that runs: they start one, make its files, need it stopped, or measure
/// without it.
const OUTSIDE: [&str; 6] = ["start", "init", "certgen", "clear", "bench", "shell"];

/// Runs one line such as `cvp status`, `status` or `namespace list`.
pub fn run_line(context: &Context, line: &str) -> Result<Exit, Failure> {
    let words = split(line)?;
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if_eq(&"cvp");
    let words: Vec<&str> = words.collect();
    match words.first() {
        None | Some(&"help") => {
            print_line(&help());
            return Ok(Exit::Done);
        }
        Some(first) if OUTSIDE.contains(first) => {
            return Err(Failure::usage(
                format!("`{first}` cannot be used here"),
                format!("run `cvp {first}` outside the shell"),
            ));
        }
        Some(_) => {}
    }
    let arguments = std::iter::once("cvp").chain(words.iter().copied());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.exit_code() == 0 => {
            print_line(error.to_string().trim_end());
            return Ok(Exit::Done);
        }
        Err(error) => return Err(usage_failure(&error, &words)),
    };
    let Some(command) = cli.command else {
        return Err(Failure::usage("no command was given", "see `help`"));
    };
    let context = Context {
        json: context.json || cli.json,
        ..context.clone()
    };
    dispatch(&context, command)
}

/// Opens the prompt and runs lines until `exit` or the end of the input.
pub fn run(context: &Context) -> Result<Exit, Failure> {
    // A wrong root is said before the first prompt, not after the first line.
    context.connect()?;
    // The editor would read the terminal behind a pipe.
    if !std::io::stdin().is_terminal() {
        return plain(context);
    }
    let mut editor = editor(context);
    loop {
        match editor.read_line(&Arrows) {
            Ok(Signal::Success(line)) => match line.trim() {
                "" => {}
                "exit" | "quit" => return Ok(Exit::Done),
                line => {
                    if let Err(failure) = run_line(context, line) {
                        print_failure(&failure, context.json);
                    }
                }
            },
            Ok(Signal::CtrlC) => {}
            Ok(_) => return Ok(Exit::Done),
            Err(error) => {
                return Err(Failure::failed(
                    "no-terminal",
                    format!("the terminal cannot be read: {error}"),
                    "pipe the lines in, or use `cvp -s --nit --cmd=LINE`",
                ));
            }
        }
    }
}

/// Without a terminal (a pipe): the same lines from standard input, without a prompt. Answers the outcome of the last one.
fn plain(context: &Context) -> Result<Exit, Failure> {
    let mut last = Exit::Done;
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { break };
        match line.trim() {
            "" => {}
            "exit" | "quit" => break,
            line => match run_line(context, line) {
                Ok(exit) => last = exit,
                Err(failure) => {
                    print_failure(&failure, context.json);
                    last = failure.exit;
                }
            },
        }
    }
    Ok(last)
}

fn editor(context: &Context) -> Reedline {
    let mut completer = DefaultCompleter::with_inclusions(&['-', '_']);
    completer.insert(phrases());
    let mut editor = Reedline::create().with_completer(Box::new(completer));
    let file = context.root.directory().join("logs/shell.history");
    if let Ok(history) = FileBackedHistory::with_file(HISTORY_LINES, file) {
        editor = editor.with_history(Box::new(history));
    }
    editor
}

/// Every line the prompt takes, for completion.
fn phrases() -> Vec<String> {
    let mut out = vec!["help".to_owned(), "exit".to_owned()];
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if OUTSIDE.contains(&name) {
            continue;
        }
        out.push(name.to_owned());
        out.push(format!("cvp {name}"));
        for inner in command.get_subcommands() {
            out.push(format!("{name} {}", inner.get_name()));
        }
    }
    out
}

fn help() -> String {
    let mut lines = Vec::new();
    for command in Cli::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let inner: Vec<&str> = command.get_subcommands().map(|c| c.get_name()).collect();
        if !OUTSIDE.contains(&command.get_name()) {
            let name = format!("{} {}", command.get_name(), inner.join("|"));
            lines.push(format!("{:<28} {about}", name.trim_end()));
        }
    }
    lines.push(format!("{:<28} Leaves the shell", "exit"));
    lines.join("\n")
}

/// Words of a line; double quotes keep spaces together.
fn split(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted {
        return Err(Failure::usage("a quote is not closed", "close it"));
    }
    Ok(words)
}

/// The prompt `>>> `.
struct Arrows;

impl Prompt for Arrows {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(">>> ")
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_outside_quotes() {
        assert_eq!(split("cvp  status \"a b\" \"\"").unwrap(), ["cvp", "status", "a b", ""]);
        assert!(split("\"open").is_err());
    }

    #[test]
    fn lines_of_the_manual_complete() {
        let phrases = phrases();
        for line in ["cvp status", "namespace list", "cvp upgrade"] {
            assert!(phrases.iter().any(|p| p == line), "{line}");
        }
        assert!(help().contains("namespace"));
        for outside in OUTSIDE {
            let listed = |text: &str| text.split_whitespace().next() == Some(outside);
            assert!(!help().lines().any(listed), "{outside}");
            let whole = format!("cvp {outside}");
            assert!(
                !phrases.iter().any(|phrase| phrase == outside || *phrase == whole),
                "{outside}"
            );
        }
    }
}
