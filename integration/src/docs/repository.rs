//! What can be known of a command without running it, and of what the
//! documentation names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::Page;
use crate::demo::Limosa;
use crate::worker;

/// Programs that are not ours; of their arguments only paths can be checked.
const FOREIGN: &str = "apt-get buildah cp curl docker git helm install ip journalctl kubectl ln ls mount ovn-appctl \
    ovn-nbctl ovn-sbctl ovs-appctl ovs-ofctl ovs-vsctl podman promtool ssh systemctl tar tcpdump virsh virtctl";

/// Folders of the repository, by which a path into it is known.
const FOLDERS: [&str; 7] = ["bench", "charts", "contrib", "crates", "docs", "integration", ".github"];

/// The repository that the documentation is of.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    /// The text of the Makefile and of every Rust file.
    code: String,
}

impl Repository {
    /// The one that this program was built from.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("find the repository")?;
        let mut code = std::fs::read_to_string(root.join("Makefile")).context("read the Makefile")?;
        for folder in ["bench", "crates", "integration"] {
            read_code(&root.join(folder), &mut code)?;
        }
        Ok(Self { root, code })
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks a command that is not run: its program and flags, the targets,
    /// packages and files that it names.
    ///
    /// # Errors
    ///
    /// What there is not.
    pub fn check(&self, command: &str) -> Result<()> {
        let words: Vec<&str> = command
            .split_whitespace()
            .map(|word| word.trim_matches(['\'', '"']))
            .take_while(|w| *w != "#")
            .collect();
        for part in words.split(|word| ["|", "||", "&&", ";"].contains(word)) {
            let is_setting = |word: &&&str| word.contains('=') && !word.starts_with('-');
            let part = &part[part.iter().take_while(is_setting).count()..];
            let (program, args) = part.split_first().context("an empty command")?;
            match program.rsplit('/').next().unwrap_or_default() {
                "limosa" => knows(&Limosa::binary()?, args)?,
                "limosa-lab" => knows(&worker::binary()?, args)?,
                "make" => self.has_targets(args)?,
                "cargo" => self.has_packages(args)?,
                name if FOREIGN.split_whitespace().any(|foreign| foreign == name) => {}
                name => {
                    bail!("what is {name}? Where it is not ours, add it to FOREIGN in integration/src/docs")
                }
            }
            for path in part.iter().filter(|word| is_path(word)) {
                ensure!(self.root.join(path).exists(), "there is no {path}");
            }
        }
        Ok(())
    }

    fn has_targets(&self, args: &[&str]) -> Result<()> {
        let makefile = std::fs::read_to_string(self.root.join("Makefile")).context("read the Makefile")?;
        for target in args.iter().filter(|arg| !arg.contains('=')) {
            let rule = format!("{target}:");
            ensure!(
                makefile.lines().any(|line| line.starts_with(&rule)),
                "the Makefile has no target {target}"
            );
        }
        Ok(())
    }

    fn has_packages(&self, args: &[&str]) -> Result<()> {
        for pair in args.windows(2) {
            let (name, what) = (pair[1], pair[0]);
            let there = match what {
                "-p" | "--package" => ["crates", ""].iter().any(|folder| {
                    let found = std::fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
                    let line = format!("name = \"{name}\"");
                    found
                        .filter_map(|dir| std::fs::read_to_string(dir.path().join("Cargo.toml")).ok())
                        .any(|manifest| manifest.contains(&line))
                }),
                "--test" => ["crates", ""].iter().any(|folder| {
                    let found = std::fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
                    let mut tests = found.map(|dir| dir.path().join("tests"));
                    tests.any(|dir| dir.join(name).is_dir() || dir.join(format!("{name}.rs")).is_file())
                }),
                _ => true,
            };
            ensure!(there, "there is no {what} {name}");
        }
        Ok(())
    }

    /// What a page names that there is not: files that it links to and their
    /// headings, files, tests and constants in `code`.
    pub fn missing(&self, page: &Page) -> Vec<String> {
        let mut missing = Vec::new();
        for link in links(&page.text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = page.path.with_file_name(file);
            let text = match file {
                "" => Ok(page.text.clone()),
                _ => std::fs::read_to_string(self.root.join(&path)),
            };
            match text {
                Ok(text) if anchor.is_empty() || anchors(&text).contains(anchor) => {}
                Ok(_) => missing.push(format!("{link}: there is no such heading")),
                Err(_) if anchor.is_empty() && self.root.join(&path).exists() => {}
                Err(_) => missing.push(format!("{link}: there is no such file")),
            }
        }
        for name in names(&page.text) {
            let there = match name {
                path if is_path(path) => self.root.join(path).exists(),
                name => !is_identifier(name) || self.code.contains(name),
            };
            if !there {
                missing.push(format!("`{name}`: there is no such thing"));
            }
        }
        missing
    }
}

fn read_code(dir: &Path, code: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry.context("read a directory")?.path();
        if path.is_dir() && !path.ends_with("target") {
            read_code(&path, code)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(
                &std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
            );
        }
    }
    Ok(())
}

/// Whether a program's own help has this verb and these flags.
fn knows(program: &Path, args: &[&str]) -> Result<()> {
    let verb = args.first().filter(|arg| !arg.starts_with('-'));
    let mut help = Command::new(program);
    let output =
        help.args(verb).arg("--help").output().with_context(|| format!("run {}", program.display()))?;
    ensure!(output.status.success(), "it has no verb {}", verb.unwrap_or(&""));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let known: BTreeSet<&str> = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    for flag in args.iter().filter(|arg| arg.starts_with('-')) {
        let flag = flag.split('=').next().unwrap_or_default();
        ensure!(known.contains(flag), "{} has no {flag}", verb.unwrap_or(&"it"));
    }
    Ok(())
}

/// Whether a word is a path into the repository.
fn is_path(word: &str) -> bool {
    let folder = word.split_once('/').map_or("", |(folder, _)| folder);
    FOLDERS.contains(&folder) && !word.contains(['*', '<', '…', '{', '$'])
}

/// Whether a word can only be the name of a constant or of a test.
fn is_identifier(word: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_constant =
        word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
    let is_setting = ["ENABLE_", "LIMOSA_", "OVN_", "OVS_"].iter().any(|prefix| word.starts_with(prefix));
    let is_test =
        word.matches('_').count() >= 3 && word.chars().all(is_inner) && !word.starts_with("limosa_");
    (is_constant && !is_setting) || is_test
}

/// Everything between two backticks on one line, outside of blocks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The links that lead somewhere in the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let all = prose(text)
        .flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
    all.filter(|link| !link.contains("://"))
}

/// The headings of a page as links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The lines outside of blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_names_has_to_be_there() {
        let repository = Repository::open().unwrap();
        for command in [
            "make test",
            "cargo run --release -p limosa-sim -- --seed 7 | ls",
            "LIMOSA_RENEW=1 cargo test -p limosa-lab --test migration # the whole of it",
            "virsh migrate --live vm1 qemu+ssh://hv2/system",
            "cp contrib/libvirt/qemu /etc/libvirt/hooks/qemu",
        ] {
            repository.check(command).unwrap();
        }
        for (command, why) in [
            ("make tea", "no target tea"),
            ("cargo run -p limosa-tea", "no -p limosa-tea"),
            ("cargo test --test tea", "no --test tea"),
            ("cp contrib/tea /etc", "no contrib/tea"),
            ("kettle --boil", "what is kettle"),
        ] {
            let error = repository.check(command).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_a_page_names_has_to_be_there() {
        let repository = Repository::open().unwrap();
        let page = |text: &str| Page { path: "docs/page.md".into(), text: text.to_owned() };
        let good = "# A `page`, it\n[x](../README.md) [y](#a-page-it) [z](https://ovn.org/#x) `crates/limosa` \
            `what_a_page_names_has_to_be_there` `READ_SIZE` `LIMOSA_STORE`\n```text\n[a](b.md) `crates/tea`\n```\n";
        assert_eq!(repository.missing(&page(good)), [""; 0]);
        // In two parts, or it would be found here.
        let test = ["a_test", "that_is_not_there"].join("_");
        let bad = format!("[x](../TEA.md) [y](#tea) `crates/tea` `{test}` `{}`\n", ["MAX", "TEA"].join("_"));
        assert_eq!(repository.missing(&page(&bad)).len(), 5);
    }
}
