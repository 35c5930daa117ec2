//! What the documentation tells people to type, and whether it works.
//!
//! Every block of commands (```` ```console ````) in README.md and docs/*.md is
//! run on a lab, command by command, as it stands there ([`Shell`]). One that
//! cannot be run says so in a comment right above it, and why; what can be known
//! of it without running it is checked ([`Repository::check`]):
//!
//! ```text
//! <!-- not run: it installs into a cluster of yours -->
//! <!-- on hv2 -->                                        instead of on hv1
//! <!-- first: limosa migrate … -->                       a command that readers do not see
//! ```
//!
//! A comment on a line of its own inside a block may be a stage direction: the
//! hypervisor's part, which the lab plays ([`Direction`]).

pub mod libvirt;
mod repository;
mod shell;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use repository::Repository;
pub use shell::{Direction, Shell};

/// A page of the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its path in the repository.
    pub path: PathBuf,
    /// Everything in it.
    pub text: String,
}

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `FILE:LINE` of its first line, for a person.
    pub at: String,
    /// What becomes of it.
    pub how: How,
    /// Its commands, each on one line, and the comments between them.
    pub lines: Vec<String>,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It is run.
    Run {
        /// The node.
        on: String,
        /// What is run before it.
        first: Vec<String>,
    },
    /// It is not run, for this reason.
    NotRun(String),
}

/// Where commands are run that do not say it.
const HERE: &str = "hv1";

/// README.md, and docs/*.md in the order of docs/SUMMARY.md.
///
/// # Errors
///
/// When a page cannot be read, or is missing in the summary.
pub fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut pages = vec![Page::read(root, "README.md")?];
    let summary = Page::read(root, "docs/SUMMARY.md")?.text;
    let listed: Vec<&str> =
        summary.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    // Whether there is what the summary names is seen by `Repository::missing`.
    for name in listed.iter().filter(|name| root.join("docs").join(name).is_file()) {
        pages.push(Page::read(root, &format!("docs/{name}"))?);
    }
    for entry in std::fs::read_dir(root.join("docs")).context("read docs")? {
        let name = entry.context("read docs")?.file_name().to_string_lossy().into_owned();
        let is_page = name.ends_with(".md") && name != "SUMMARY.md";
        ensure!(!is_page || listed.contains(&name.as_str()), "docs/{name} is not in docs/SUMMARY.md");
    }
    Ok(pages)
}

impl Page {
    /// Reads a file of the repository.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(root: &Path, path: &str) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
        Ok(Self { path: path.into(), text })
    }

    /// The blocks of commands in it.
    ///
    /// # Errors
    ///
    /// When a comment above a block is not understood, or a block is in another
    /// language of shells.
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        let mut notes: Vec<&str> = Vec::new();
        let mut lines = self.text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let at = format!("{}:{number}", self.path.display());
            let line = line.trim();
            if let Some(note) = line.strip_prefix("<!--").and_then(|note| note.strip_suffix("-->")) {
                notes.push(note.trim());
            } else if let Some(language) = line.strip_prefix("```") {
                let body: Vec<&str> =
                    lines.by_ref().map(|(line, _)| line).take_while(|l| l.trim() != "```").collect();
                let language = language.split_whitespace().next().unwrap_or_default();
                match language {
                    "console" => blocks.push(Block::new(at, &notes, &body)?),
                    "sh" | "bash" | "shell" | "zsh" => {
                        bail!("{at}: commands stand in blocks of the language console")
                    }
                    _ => {}
                }
                notes.clear();
            } else if !line.is_empty() {
                notes.clear();
            }
        }
        Ok(blocks)
    }
}

impl Block {
    fn new(at: String, notes: &[&str], body: &[&str]) -> Result<Self> {
        let (mut on, mut first, mut reason) = (HERE.to_owned(), Vec::new(), None);
        for note in notes {
            match note.split_once(' ').map(|(word, rest)| (word, rest.trim())) {
                Some(("on", node)) => on = node.to_owned(),
                Some(("first:", command)) => first.push(command.to_owned()),
                Some(("not", rest)) => {
                    let why = rest.strip_prefix("run:").map(str::trim).filter(|why| !why.is_empty());
                    reason = Some(
                        why.with_context(|| format!("{at}: not run, and it is not said why"))?.to_owned(),
                    );
                }
                // Something else's.
                _ => {}
            }
        }
        let mut lines: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in body.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
            ensure!(!line.contains("<<"), "{at}: no here-documents: name a file of the repository");
            let text = line.strip_suffix('\\').unwrap_or(line);
            match lines.last_mut().filter(|_| goes_on) {
                Some(last) => last.push_str(text),
                None => lines.push(text.to_owned()),
            }
            goes_on = text.len() < line.len();
        }
        ensure!(lines.iter().any(|line| !line.starts_with('#')), "{at}: a block without commands");
        let how = reason.map_or(How::Run { on, first }, How::NotRun);
        Ok(Self { at, how, lines })
    }

    /// Its commands, without the comments.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|line| !line.starts_with('#'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Result<Vec<Block>> {
        Page { path: "docs/page.md".into(), text: text.to_owned() }.blocks()
    }

    #[test]
    fn a_block_is_run_unless_it_says_why_not() {
        let text = "\n<!-- on hv2 -->\n<!-- first: a b -->\n\n```console\nlimosa status \\\n    move1  # all\n# a direction\nls\n```\n\
            <!-- not run: no cluster -->\n```console\nhelm list\n```\n```text\nnothing\n```\n";
        let blocks = blocks(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].how, How::Run { on: "hv2".into(), first: vec!["a b".into()] });
        assert_eq!(blocks[0].lines, ["limosa status move1  # all", "# a direction", "ls"]);
        assert_eq!(blocks[0].commands().count(), 2);
        assert_eq!(
            (blocks[0].at.as_str(), &blocks[1].how),
            ("docs/page.md:5", &How::NotRun("no cluster".into()))
        );
    }

    #[test]
    fn a_comment_counts_for_the_block_below_it_alone() {
        let blocks = blocks("<!-- not run: x -->\nwords\n```console\nls\n```\n").unwrap();
        assert_eq!(blocks[0].how, How::Run { on: HERE.into(), first: Vec::new() });
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (text, why) in [
            ("<!-- not run: -->\n```console\nls\n```\n", "not said why"),
            ("```bash\nls\n```\n", "language console"),
            ("```console\ncat <<EOF\nEOF\n```\n", "here-documents"),
            ("```console\n# nothing\n```\n", "without commands"),
        ] {
            let error = blocks(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
