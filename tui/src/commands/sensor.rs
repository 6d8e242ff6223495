//! `sensors` and `sensor`: what is kept running.

use std::process::ExitCode;

use ibid::protocol::{ListSensors, SensorList, SensorStart, SensorStop};

use super::lists::{Facts, more, page};
use crate::app::arguments;
use crate::cli::{self, Sensor};
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

pub fn list(context: &Context, list: &cli::List) -> Outcome {
    let mut all = context.ask(ListSensors { scope: context.scope_named.then(|| context.scope.clone()) })?;
    let none = all.sensors.is_empty();
    let (sensors, next) = page(std::mem::take(&mut all.sensors), list, |sensor| Facts {
        key: sensor.run.to_string(),
        state: sensor.state.clone(),
        target: sensor.target.clone(),
        since: Some(sensor.stopped.unwrap_or(sensor.started)),
    })?;
    if context.json {
        return output::json(&SensorList { sensors, ..all });
    }
    if none {
        let text = match all.available.first() {
            Some(one) => format!("no sensor was started; 'ibid sensor start {}' does\n", clean(&one.target)),
            None => "no sensor is registered: decorate a function with @sensor() from ibid\n".to_owned(),
        };
        output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = sensors
        .iter()
        .map(|sensor| {
            vec![
                sensor.run.to_string(),
                format!("{}/{}", clean(&sensor.project), clean(&sensor.environment)),
                clean(&sensor.target),
                sensor.state.clone(),
                clean(&sensor.arguments),
                clean(sensor.checkpoint.as_deref().unwrap_or_default()),
                sensor.restarts.to_string(),
                ago(sensor.stopped.unwrap_or(sensor.started)),
                clean(&sensor.detail),
            ]
        })
        .collect();
    let headings = ["RUN", "WHERE", "SENSOR", "STATE", "ARGUMENTS", "CHECKPOINT", "RESTARTS", "SINCE", "DETAIL"];
    output::print(&format!("{}{}", table(&headings, &rows), more("sensors", next.as_deref())))?;
    Ok(ExitCode::SUCCESS)
}
