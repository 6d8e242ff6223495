//! Sensors, checkpoints and environments: what is set up once and stays.

use ibid::model::{Argument, Sensor, State as ExecutionState, TargetKind, Trigger};
use ibid::protocol::{
    AvailableSensor, Done, EnvCreate, EnvCreated, ExecutionCheckpoint, Refused, Reply, Scope, SensorList, SensorStart,
    SensorStarted, SensorStop, SensorStopped, SensorView,
};

use super::requests::{keep_argument, refused, unknown_target};
use super::{Owner, State, arguments, views};
use crate::server::Ticket;

impl Owner {
    pub(super) fn sensor_start(&self, state: &mut State, start: SensorStart) -> Result<Reply, Refused> {
        if state.stopping {
            return Err(Refused::new("stopping", "the daemon is stopping and starts nothing; try again in a moment"));
        }
        let environment = self.environment(state, &start.scope)?;
        let Some((_, spec)) = state.engine.target(environment, &start.target) else {
            return Err(unknown_target(state, environment, &start.target));
        };
        let bound =
            arguments::bind(&start.target, &spec.parameters, start.arguments, start.named, |json| self.whole(json))
                .map_err(|message| Refused::new("bad_request", message))?;
        let mut values = Vec::with_capacity(bound.len());
        for json in bound {
            values.push(keep_argument(state, json)?);
        }
        let started = state
            .decide(|engine, t| engine.start_sensor(t, environment, &start.target, values, start.fresh))
            .map_err(refused)?;
        Ok(Reply::SensorStart(SensorStarted { run: started.run, already: started.already, resumed: started.resumed }))
    }

    pub(super) fn sensor_stop(&self, state: &mut State, stop: &SensorStop) -> Result<Reply, Refused> {
        let environment = self.environment(state, &stop.scope)?;
        let known = state.engine.sensors().any(|sensor| sensor.target == stop.target);
        if !known && state.engine.target(environment, &stop.target).is_none() {
            return Err(unknown_target(state, environment, &stop.target));
        }
        let stopped = state.decide(|engine, t| engine.stop_sensor(t, environment, &stop.target));
        if stopped.is_empty() {
            let message = format!("{} is not running here; 'ibid sensors' lists what is", stop.target);
            return Err(Refused::new("already_ended", message));
        }
        Ok(Reply::SensorStop(SensorStopped { stopped }))
    }

    pub(super) fn list_sensors(&self, state: &State, scope: Option<&Scope>) -> Result<Reply, Refused> {
        let environment = scope.map(|scope| self.environment(state, scope)).transpose()?;
        let mut sensors: Vec<_> = state
            .engine
            .sensors()
            .filter(|sensor| environment.is_none_or(|number| number == sensor.environment))
            .map(|sensor| sensor_view(state, sensor))
            .collect();
        sensors.sort_by(|a, b| (&a.target, a.run).cmp(&(&b.target, b.run)));
        let environments =
            state.engine.environments().filter(|other| environment.is_none_or(|number| number == other.number));
        let available = environments
            .flat_map(|environment| {
                let scope = Scope { project: environment.project.clone(), environment: environment.name.clone() };
                let targets = state.engine.targets(environment.number);
                targets.into_iter().filter(|(_, spec)| spec.kind == TargetKind::Sensor).map(
                    move |(repository, spec)| AvailableSensor {
                        scope: scope.clone(),
                        target: format!("{}/{}", repository.name, spec.name),
                        parameters: spec.parameters.clone(),
                    },
                )
            })
            .collect();
        Ok(Reply::Sensors(SensorList { sensors, available }))
    }

    pub(super) fn execution_checkpoint(
        &self,
        state: &mut State,
        ticket: &Ticket,
        checkpoint: ExecutionCheckpoint,
    ) -> Result<Reply, Refused> {
        super::executions::owns(state, ticket, checkpoint.execution)?;
        let mut values = Vec::with_capacity(checkpoint.arguments.len());
        for json in checkpoint.arguments {
            values.push(keep_argument(state, json)?);
        }
        state.engine.set_checkpoint(checkpoint.execution, values).map_err(refused)?;
        Ok(Reply::ExecutionCheckpoint(Done {}))
    }

    pub(super) fn env_create(&self, state: &mut State, create: EnvCreate) -> Result<Reply, Refused> {
        let Scope { project, environment: name } = create.scope;
        for (what, name) in [("project", &project), ("environment", &name)] {
            if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
                let message = format!("'{}' cannot name the {what}: it is empty or has a '/'", name.escape_debug());
                return Err(Refused::new("bad_request", message));
            }
        }
        let known = state.engine.environment(&project, &name).map(|environment| environment.number);
        if let Some(base) = create.base.as_deref()
            && state.engine.environment(&project, base).is_none()
        {
            let there: Vec<_> = state
                .engine
                .environments()
                .filter(|other| other.project == project)
                .map(|other| other.name.clone())
                .collect();
            let hint =
                if there.is_empty() { "it has none yet".to_owned() } else { format!("it has {}", there.join(", ")) };
            let message = format!("project '{project}' has no environment '{base}' to be the base; {hint}");
            return Err(Refused::new("not_found", message));
        }
        let number = state.engine.create_environment(&project, &name);
        if let Some(base) = create.base {
            state.engine.set_base(number, Some(&base)).map_err(refused)?;
            state.decide(|engine, t| engine.renew_sensors(t, None));
        }
        let Some(environment) = state.engine.environment_by_number(number) else {
            return Err(Refused::new("internal", "the environment was not created"));
        };
        Ok(Reply::EnvCreate(EnvCreated { environment: environment.into(), created: known.is_none() }))
    }
}

fn sensor_view(state: &State, sensor: &Sensor) -> SensorView {
    let environment = state.engine.environment_by_number(sensor.environment);
    let step = state.engine.live_step(sensor.run.root());
    let newest = step.and_then(|step| Some((step, step.attempts.last()?)));
    let (standing, detail) = match newest {
        _ if sensor.stopped.is_some() => ("stopped", String::new()),
        Some((step, attempt)) if attempt.state() == ExecutionState::Queued => {
            let word = if attempt.trigger == Trigger::Hand { "starting" } else { "restarting" };
            (word, views::waiting_reason(state, step, step.newest(), attempt))
        }
        Some((step, attempt)) => ("running", views::detail(state, step, step.newest(), attempt)),
        None => ("stopped", String::new()),
    };
    let short = |arguments: &[Argument]| views::short_values(arguments);
    SensorView {
        target: sensor.target.clone(),
        project: environment.map(|environment| environment.project.clone()).unwrap_or_default(),
        environment: environment.map(|environment| environment.name.clone()).unwrap_or_default(),
        state: standing.to_owned(),
        detail,
        arguments: short(&sensor.arguments),
        checkpoint: sensor.checkpoint.as_deref().map(short),
        run: sensor.run,
        started: sensor.started,
        stopped: sensor.stopped,
        restarts: sensor.restarts,
    }
}
