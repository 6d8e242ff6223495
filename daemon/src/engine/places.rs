//! Environments with their bases, and the repositories registered in them.

use std::collections::BTreeSet;

use ibid::model::{Environment, ExecutionId, Repository, TargetSpec};

use super::{Engine, Refusal, RepositoryKey};

impl Engine {
    /// An environment by project and name.
    #[must_use]
    pub fn environment(&self, project: &str, name: &str) -> Option<&Environment> {
        self.environments.values().find(|environment| environment.project == project && environment.name == name)
    }

    /// An environment by its number.
    #[must_use]
    pub fn environment_by_number(&self, number: u32) -> Option<&Environment> {
        self.environments.get(&number)
    }

    /// All environments, by number.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// The number of an environment, which is created if it does not exist.
    pub fn create_environment(&mut self, project: &str, name: &str) -> u32 {
        if let Some(environment) = self.environment(project, name) {
            return environment.number;
        }
        let number = self.environments.last_key_value().map_or(1, |(number, _)| number + 1);
        let environment = Environment { number, project: project.to_owned(), name: name.to_owned(), base: None };
        self.recent.rest.environments.push(environment.clone());
        self.recent.rest.durable = true;
        self.environments.insert(number, environment);
        number
    }

    /// The environment and its bases, nearest first. A circle of bases ends where it closes.
    pub(super) fn chain(&self, environment: u32) -> Vec<u32> {
        let mut chain = vec![environment];
        while let Some(current) = chain.last().and_then(|number| self.environments.get(number)) {
            let Some(base) = current.base.as_deref().and_then(|base| self.environment(&current.project, base)) else {
                break;
            };
            if chain.contains(&base.number) {
                break;
            }
            chain.push(base.number);
        }
        chain
    }

    /// Gives an environment a base, or another one, or none.
    ///
    /// # Errors
    /// Where there is no such base in the project, or it is based on this environment itself.
    pub fn set_base(&mut self, number: u32, base: Option<&str>) -> Result<(), Refusal> {
        let Some(environment) = self.environments.get(&number) else { return Ok(()) };
        if environment.base.as_deref() == base {
            return Ok(());
        }
        let (project, name) = (environment.project.clone(), environment.name.clone());
        if let Some(base) = base {
            let Some(found) = self.environment(&project, base) else {
                return Err(Refusal::UnknownEnvironment(project, base.to_owned()));
            };
            let chain = self.chain(found.number);
            if chain.contains(&number) {
                let names = chain.iter().filter_map(|number| Some(self.environments.get(number)?.name.as_str()));
                let through = names.collect::<Vec<_>>().join(" → ");
                return Err(Refusal::BaseCircle(name, base.to_owned(), through));
            }
        }
        if let Some(environment) = self.environments.get_mut(&number) {
            environment.base = base.map(str::to_owned);
            let environment = environment.clone();
            self.recent.rest.environments.retain(|other| other.number != number);
            self.recent.rest.environments.push(environment);
        }
        self.recent.rest.durable = true;
        self.find_repositories_anew();
        Ok(())
    }

    /// Targets may be found elsewhere now: what is due goes to the workers of the nearest.
    fn find_repositories_anew(&mut self) {
        let due: Vec<ExecutionId> = self.ready.values().flatten().map(|(_, execution)| *execution).collect();
        let due = due.into_iter().chain(self.ready_sensors.values().flatten().copied());
        let moved: Vec<ExecutionId> = due
            .filter(|execution| {
                let found = self.repository_of(*execution);
                self.nodes.get(execution).is_some_and(|node| node.repository != Some(found))
            })
            .collect();
        for execution in moved {
            self.leave_ready(execution);
            self.make_ready(execution);
        }
    }

    /// Where an execution's target is found now; where it was not found, whoever registers it in the
    /// environment gets the work.
    pub(super) fn repository_of(&self, execution: ExecutionId) -> RepositoryKey {
        let environment = self.environment_of(execution.step.run);
        let target = self.steps.get(&execution.step).map_or("", |live| live.step.target.as_str());
        match self.target(environment, target) {
            Some((key, _)) => key,
            None => {
                (environment, target.rsplit_once('/').map_or(String::new(), |(repository, _)| repository.to_owned()))
            }
        }
    }

    /// Records what a repository hosts; from now on calls run this code.
    pub fn register(&mut self, mut repository: Repository) -> u64 {
        let key = (repository.environment, repository.name.clone());
        repository.generation = self.repositories.get(&key).map_or(1, |old| old.generation + 1);
        let generation = repository.generation;
        self.recent.rest.repositories.retain(|other| (other.environment, &other.name) != (key.0, &key.1));
        self.recent.rest.repositories.push(repository.clone());
        self.recent.rest.durable = true;
        self.repositories.insert(key, repository);
        self.find_repositories_anew();
        generation
    }

    /// All repositories, by environment and name.
    pub fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.repositories.values()
    }

    /// A repository.
    #[must_use]
    pub fn repository(&self, key: &RepositoryKey) -> Option<&Repository> {
        self.repositories.get(key)
    }

    /// The repository and declaration of a target, looked for in the environment and its bases.
    #[must_use]
    pub fn target(&self, environment: u32, target: &str) -> Option<(RepositoryKey, &TargetSpec)> {
        let (repository, name) = target.rsplit_once('/')?;
        self.chain(environment).into_iter().find_map(|number| {
            let key = (number, repository.to_owned());
            let spec = self.repositories.get(&key)?.target(name)?;
            Some((key, spec))
        })
    }

    /// The targets that an environment sees, nearest first where names repeat.
    #[must_use]
    pub fn targets(&self, environment: u32) -> Vec<(&Repository, &TargetSpec)> {
        let mut seen = BTreeSet::new();
        let mut targets = Vec::new();
        for number in self.chain(environment) {
            for repository in self.repositories.values().filter(|repository| repository.environment == number) {
                for spec in &repository.targets {
                    if seen.insert((&repository.name, &spec.name)) {
                        targets.push((repository, spec));
                    }
                }
            }
        }
        targets
    }
}
