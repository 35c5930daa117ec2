//! The documentation: every command in it works, and all that it names is there.

use std::process::Command;

use limosa_lab::LogicalPort;
use limosa_lab::demo::Limosa;
use limosa_lab::docs::libvirt::{self, Libvirt};
use limosa_lab::docs::{Direction, How, Page, Repository, Shell, pages};
use limosa_lab::kube::{ApiServer, limosa};

/// Runs what a page tells people to run, in order.
async fn run(shell: &mut Shell, repository: &Repository, page: &Page, account: &mut Vec<String>) {
    let blocks = page.blocks().unwrap_or_else(|error| panic!("{error:#}"));
    if blocks.iter().any(|block| matches!(block.how, How::Run { .. })) {
        shell.turn_page().await.unwrap_or_else(|error| panic!("before {}: {error:#}", page.path.display()));
    }
    for block in blocks {
        match &block.how {
            How::NotRun(reason) => {
                for command in block.commands() {
                    repository
                        .check(command)
                        .unwrap_or_else(|error| panic!("{}: {command}: {error:#}", block.at));
                }
                account.push(format!("{}: checked only: {reason}", block.at));
            }
            How::Run { on, first } => {
                for line in first.iter().chain(&block.lines) {
                    let done = match (line.strip_prefix('#'), Direction::of(line)) {
                        (Some(_), Some(direction)) => shell.play(direction).await.map(|()| String::new()),
                        (Some(_), None) => continue,
                        (None, _) => shell.run(on, line).await,
                    };
                    match done {
                        Ok(printed) if printed.is_empty() => println!("{}: {line}", block.at),
                        Ok(printed) => println!("{}: {line}\n{printed}\n", block.at),
                        Err(error) => panic!("{}: {line}: {error:#}\n{}", block.at, shell.logs()),
                    }
                }
                account.push(format!("{}: run, {} commands", block.at, block.commands().count()));
            }
        }
        shell.all_run().unwrap_or_else(|error| panic!("{}: {error:#}", block.at));
    }
}

#[tokio::test]
async fn every_command_of_the_documentation_works() {
    let repository = Repository::open().unwrap();
    let mut shell = Shell::start(repository.root()).await.unwrap();
    let mut account = Vec::new();
    for page in pages(repository.root()).unwrap() {
        run(&mut shell, &repository, &page, &mut account).await;
    }
    println!("{}", account.join("\n"));
    let run = account.iter().filter(|line| line.contains(": run, ")).count();
    assert!(run >= 5, "hardly anything is run: {account:#?}");
}

#[test]
fn whatever_the_documentation_names_is_there() {
    let repository = Repository::open().unwrap();
    let mut pages = pages(repository.root()).unwrap();
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/SUMMARY.md"] {
        pages.push(Page::read(repository.root(), name).unwrap());
    }
    let missing = pages.iter().flat_map(|page| {
        let at = page.path.display();
        repository.missing(page).into_iter().map(move |what| format!("{at}: {what}"))
    });
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn what_is_installed_by_hand_fits_the_program() {
    let repository = Repository::open().unwrap();
    let contrib = repository.root().join("contrib");
    let unit = std::fs::read_to_string(contrib.join("systemd/limosa@.service")).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let mut help = String::new();
    for verb in ["agent", "controller"] {
        repository.check(&command.replace("%i", verb)).unwrap();
        let output = Command::new(Limosa::binary().unwrap()).args([verb, "--help"]).output().unwrap();
        help.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    let settings = std::fs::read_to_string(contrib.join("limosa.default")).unwrap();
    let settings: Vec<&str> = settings
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(settings.len() > 5, "{settings:?}");
    for name in settings {
        assert!(help.contains(name), "{name} is no setting of the agent or the controller");
    }
}

/// The options of the guest's port.
async fn options(libvirt: &mut Libvirt<'_>) -> String {
    let command = format!("ovn-nbctl get Logical_Switch_Port {} options", libvirt::PORT);
    libvirt.shell().run("hv1", &command).await.unwrap()
}

/// The name and the phase of each migration, oldest first.
async fn migrations(libvirt: &mut Libvirt<'_>) -> Vec<(String, String)> {
    let status = libvirt.shell().run("hv1", "limosa status --output json").await.unwrap();
    let objects: Vec<serde_json::Value> = serde_json::from_str(&status).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    objects.iter().map(|one| (text(&one["metadata"]["name"]), text(&one["status"]["phase"]))).collect()
}

#[tokio::test]
async fn libvirts_hook_has_ports_follow_their_guests() {
    let mut shell = Shell::start(Repository::open().unwrap().root()).await.unwrap();
    shell
        .lab()
        .port("ls0", LogicalPort::new(libvirt::PORT, "02:00:00:00:07:01", "192.168.7.9"))
        .await
        .unwrap();
    let mut libvirt = Libvirt::start(&mut shell, &["hv1", "hv2"]).await.unwrap();
    // Before there is a store, or anything of Limosa: the guest starts all the same.
    libvirt.create("hv1").await.unwrap();
    let up = ["--timeout=60", "wait-until", "Logical_Switch_Port", libvirt::PORT, "up=true"];
    libvirt.shell().lab().nbctl(&up).await.unwrap();
    libvirt.shell().run("hv1", "limosa agent").await.unwrap();
    libvirt.shell().run("hv1", "limosa controller").await.unwrap();

    libvirt.migrate("hv1", "hv2", ".").await.unwrap();
    let [(name, _)] = &migrations(&mut libvirt).await[..] else { panic!("not one migration") };
    libvirt.shell().run("hv1", &format!("limosa wait {name}")).await.unwrap();
    assert_eq!(options(&mut libvirt).await, "{}");
    assert_eq!(libvirt.shell().lab().bound_to(libvirt::PORT).await.unwrap().as_deref(), Some("ch2"));
    assert!(libvirt.virsh("hv2", "list --name").await.unwrap().contains("vm1"));

    // One attempt of which libvirt never tells the end, and one that fails when QEMU is there: both are taken back.
    assert_eq!(
        libvirt.hook("hv1", "migrate begin -").await.unwrap(),
        "",
        "it would be the guest's description"
    );
    assert_eq!(options(&mut libvirt).await, "{requested-chassis=ch2}");
    libvirt.migrate("hv2", "hv1", "no-such-directory").await.unwrap_err();
    for (name, _) in migrations(&mut libvirt).await.iter().skip(1) {
        libvirt.shell().run("hv1", &format!("limosa wait {name} --for rolledback")).await.unwrap();
    }
    assert_eq!((migrations(&mut libvirt).await.len(), options(&mut libvirt).await.as_str()), (3, "{}"));

    // Limosa refuses: libvirt does not migrate, and says why.
    let elsewhere =
        format!("limosa migrate {} --from hv2 --to hv3 --name other --wait=arming", libvirt::PORT);
    libvirt.shell().run("hv1", &elsewhere).await.unwrap();
    let refusal = libvirt.migrate("hv2", "hv1", ".").await.unwrap_err().to_string();
    assert!(refusal.contains("already being moved by migration other"), "{refusal}");
    assert!(libvirt.virsh("hv2", "list --name").await.unwrap().contains("vm1"));
    assert_eq!(libvirt.shell().lab().bound_to(libvirt::PORT).await.unwrap().as_deref(), Some("ch2"));
    shell.all_run().unwrap();
}

/// What docs/security.md says of them.
#[tokio::test]
async fn agents_and_controller_may_do_what_they_need_and_no_more() {
    let server = ApiServer::launch().await.unwrap();
    limosa::install(&server.client().await.unwrap()).await.unwrap();
    let both = [limosa::AGENT, limosa::CONTROLLER];
    let only_controller = [limosa::CONTROLLER];
    let nobody: [&str; 0] = [];
    for (verb, resource, who) in [
        ("list", "portmigrations.limosa.io", &both[..]),
        ("patch status of", "portmigrations.limosa.io", &both),
        ("create", "portmigrations.limosa.io", &only_controller),
        ("patch", "portmigrations.limosa.io", &only_controller),
        ("delete", "portmigrations.limosa.io", &only_controller),
        ("list", "pods", &only_controller),
        ("patch", "virtualmachineinstancemigrations.kubevirt.io", &nobody),
        ("get", "secrets", &nobody),
        ("create", "pods", &nobody),
        ("delete", "pods", &nobody),
        ("list", "nodes", &nobody),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", &nobody),
        ("impersonate", "serviceaccounts", &nobody),
    ] {
        for user in both {
            let mut command = Command::new("kubectl");
            command.arg("--kubeconfig").arg(server.kubeconfig());
            let (verb, subresource) = match verb.split_once(' ') {
                Some((verb, _)) => (verb, "status"),
                None => (verb, ""),
            };
            command.args(["auth", "can-i", verb, resource, "--subresource", subresource]);
            command.args(["--all-namespaces", "--as", user]);
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            let (answer, said) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let expected = if who.contains(&user) { "yes" } else { "no" };
            assert_eq!(answer.trim().split(' ').next(), Some(expected), "{user} {verb} {resource}: {said}");
        }
    }
}
