//! `sensors` and `sensor`: what is kept running.

use std::process::ExitCode;

use ibid::protocol::{ListSensors, SensorStart, SensorStop};

use crate::app::arguments;
use crate::cli::Sensor;
use crate::context::{Context, Outcome};
use crate::output::{self, ago, clean, table};

pub fn sensor(context: &Context, sensor: &Sensor) -> Outcome {
    match sensor {
        Sensor::Start { target, arguments, named, fresh } => {
            let start = SensorStart {
                scope: context.scope.clone(),
                target: target.clone(),
                arguments: arguments.iter().map(|text| arguments::value(text)).collect(),
                named: named.iter().map(|text| arguments::named(text)).collect::<Result<_, _>>()?,
                fresh: *fresh,
            };
            let started = context.ask(start)?;
            if context.json {
                return output::json(&started);
            }
            let what = match (started.already, started.resumed) {
                (true, _) => "was running already",
                (false, true) => "is kept running, from its checkpoint",
                (false, false) => "is kept running",
            };
            output::print(&format!("{} {what} (ibid logs {} -f)\n", clean(target), started.run.root()))?;
        }
        Sensor::Stop { target } => {
            let stopped = context.ask(SensorStop { scope: context.scope.clone(), target: target.clone() })?;
            if context.json {
                return output::json(&stopped);
            }
            let runs: Vec<_> = stopped.stopped.iter().map(ToString::to_string).collect();
            output::print(&format!("{} stopped ({})\n", clean(target), runs.join(" ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn list(context: &Context) -> Outcome {
    let list = context.ask(ListSensors { scope: context.scope_named.then(|| context.scope.clone()) })?;
    if context.json {
        return output::json(&list);
    }
    if list.sensors.is_empty() {
        let text = match list.available.first() {
            Some(one) => format!("no sensor was started; 'ibid sensor start {}' does\n", clean(&one.target)),
            None => "no sensor is registered: decorate a function with @sensor() from ibid\n".to_owned(),
        };
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = list
        .sensors
        .iter()
        .map(|sensor| {
            vec![
                format!("{}/{}", clean(&sensor.project), clean(&sensor.environment)),
                clean(&sensor.target),
                sensor.state.clone(),
                sensor.run.to_string(),
                clean(&sensor.arguments),
                clean(sensor.checkpoint.as_deref().unwrap_or_default()),
                sensor.restarts.to_string(),
                ago(sensor.stopped.unwrap_or(sensor.started)),
                clean(&sensor.detail),
            ]
        })
        .collect();
    let headings = ["WHERE", "SENSOR", "STATE", "RUN", "ARGUMENTS", "CHECKPOINT", "RESTARTS", "SINCE", "DETAIL"];
    output::print(&table(&headings, &rows))?;
    Ok(ExitCode::SUCCESS)
}
