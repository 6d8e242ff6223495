//! `register`: makes the targets of modules known.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ibid::protocol::{Register, Registered};

use super::lists::target_table;
use crate::cli;
use crate::context::{Context, Failure, Outcome};
use crate::output;
use crate::project::Project;

pub fn register(context: &Context, command: &cli::Register) -> Outcome {
    let all = make_known(context, command)?;
    if context.json {
        return output::json(&all);
    }
    output::print(&(target_table(&all.targets) + &notes(&all)))?;
    Ok(ExitCode::SUCCESS)
}

/// The same once more: says how many there are.
pub fn register_again(context: &Context, command: &cli::Register) -> Result<(), Failure> {
    let all = make_known(context, command)?;
    let count = all.targets.len();
    eprint!("ibid: {count} target{}\n{}", if count == 1 { "" } else { "s" }, notes(&all));
    Ok(())
}

fn notes(all: &Registered) -> String {
    all.notes.iter().map(|note| format!("note: {}\n", output::clean(note))).collect()
}

fn make_known(context: &Context, command: &cli::Register) -> Result<Registered, Failure> {
    let requests = requests(context, command)?;
    let mut client = context.connect()?;
    let mut all = Registered { targets: Vec::new(), notes: Vec::new() };
    for request in requests {
        let registered = client.call(request)?;
        all.targets.extend(registered.targets);
        all.notes.extend(registered.notes);
    }
    Ok(all)
}

/// The modules that are named, or those of the project file.
fn requests(context: &Context, command: &cli::Register) -> Result<Vec<Register>, Failure> {
    let here =
        std::env::current_dir().map_err(|error| Failure::usage(format!("there is no current directory: {error}")))?;
    if let Some(file) = command.modules.iter().find(|module| module.ends_with(".py") && here.join(module).exists()) {
        let module = file.trim_end_matches(".py").replace('/', ".");
        return Err(Failure::usage(format!("modules go by their names, not their files: 'ibid register {module}'")));
    }
    if !(command.modules.is_empty() && command.programs.is_empty()) {
        let directory = command.dir.clone().unwrap_or_else(|| here.clone());
        let what = What {
            modules: command.modules.clone(),
            programs: command.programs.iter().map(|program| here.join(program)).collect(),
            interpreter: command.python.clone(),
            concurrency: None,
            fork: true,
        };
        return Ok(vec![build(context, command, what, &directory)?]);
    }
    let project =
        context.project.as_ref().filter(|project| !(project.repositories.is_empty() && project.tasks.is_empty()));
    let Some(project) = project else {
        let message = "name a module: 'ibid register my.tasks', or a program: 'ibid register --bin target/release/my-tasks'; or list repositories and tasks in ibid.toml";
        return Err(Failure::usage(message));
    };
    let root = &project.directory;
    let tasks = project.tasks.iter().map(|(name, task)| task.shell_task(name, root));
    let tasks = tasks.collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    let shell = Register {
        scope: context.scope.clone(),
        modules: Vec::new(),
        directory: root.display().to_string(),
        interpreter: String::new(),
        tasks: Some(tasks),
        variables: if command.clean_env { Vec::new() } else { own_variables() },
        concurrency: None,
        fork: true,
        programs: Vec::new(),
    };
    let hosts = project.repositories.values().map(|repository| {
        let directory = root.join(repository.directory.as_deref().unwrap_or(Path::new("")));
        let interpreter =
            command.python.clone().or_else(|| repository.interpreter.as_ref().map(|path| root.join(path)));
        let what = What {
            modules: repository.python.iter().cloned().collect(),
            programs: repository.bin.iter().map(|program| root.join(program)).collect(),
            interpreter,
            concurrency: repository.concurrency,
            fork: repository.fork,
        };
        build(context, command, what, &directory)
    });
    hosts.chain([Ok(shell)]).collect()
}

/// The programs that are named, or those of the project file, built or not.
pub fn programs(project: Option<&Project>, command: &cli::Register) -> Vec<PathBuf> {
    if !(command.modules.is_empty() && command.programs.is_empty()) {
        return command.programs.iter().filter_map(|program| std::path::absolute(program).ok()).collect();
    }
    let Some(project) = project else { return Vec::new() };
    let named = project.repositories.values().filter_map(|repository| repository.bin.as_ref());
    named.filter_map(|program| std::path::absolute(project.directory.join(program)).ok()).collect()
}

/// What is registered together.
struct What {
    modules: Vec<String>,
    programs: Vec<PathBuf>,
    interpreter: Option<PathBuf>,
    concurrency: Option<u32>,
    fork: bool,
}

fn build(context: &Context, command: &cli::Register, what: What, directory: &Path) -> Result<Register, Failure> {
    let directory = std::path::absolute(directory)
        .ok()
        .filter(|directory| directory.is_dir())
        .ok_or_else(|| Failure::usage(format!("there is no directory {}", directory.display())))?;
    let variables = if command.clean_env { Vec::new() } else { own_variables() };
    let interpreter = match what.modules.is_empty() {
        true => String::new(),
        false => find_interpreter(what.interpreter.as_deref(), &directory)?.display().to_string(),
    };
    let programs = what.programs.iter().map(|program| {
        let found = std::fs::canonicalize(program).ok().filter(|program| program.is_file());
        let missing = || format!("there is no program {}; is it built? 'cargo build --release'", program.display());
        found.map(|program| program.display().to_string()).ok_or_else(|| Failure::usage(missing()))
    });
    Ok(Register {
        scope: context.scope.clone(),
        modules: what.modules,
        interpreter,
        directory: directory.display().to_string(),
        variables,
        concurrency: command.concurrency.or(what.concurrency),
        fork: what.fork && !command.no_fork,
        tasks: None,
        programs: programs.collect::<Result<_, _>>()?,
    })
}

/// This shell's variables, without those that belong to this very process or to ibid.
pub fn own_variables() -> Vec<(String, String)> {
    let own = |name: &str| {
        matches!(name, "IBID_EXECUTION" | "IBID_SOCKET" | "IBID_DATA_DIR" | "_" | "SHLVL" | "OLDPWD")
            || name.starts_with("IBID_WORKER_")
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !own(name))
        .collect()
}

/// The interpreter that was named, else `.venv/bin/python` below the directory, `$VIRTUAL_ENV`, `python3`.
pub fn find_interpreter(named: Option<&Path>, directory: &Path) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &Path| std::env::split_paths(&path).map(|one| one.join(name)).find(|file| file.is_file());
    if let Some(named) = named {
        let found = if named.components().count() == 1 { on_path(named) } else { Some(named.to_owned()) };
        return found
            .and_then(|found| std::path::absolute(found).ok())
            .filter(|found| found.is_file())
            .ok_or_else(|| Failure::usage(format!("there is no interpreter {}", named.display())));
    }
    let virtual_env = std::env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty());
    let candidates = [
        Some(directory.join(".venv/bin/python")),
        virtual_env.map(|root| PathBuf::from(root).join("bin/python")),
        on_path(Path::new("python3")),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .ok_or_else(|| Failure::usage("no Python interpreter was found: name one with --python"))
}
