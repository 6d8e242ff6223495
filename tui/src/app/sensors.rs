//! The board of sensors: which are kept running, starting and stopping them.

use ibid::model::{Id, Json};
use ibid::protocol::{AvailableSensor, Cancel, ListSensors, Request, Scope, SensorList, SensorStart, SensorView};

use super::model::{Model, Overlay, Purpose};

/// What the board shows, and where the user is on it.
#[derive(Debug, Clone, Default)]
pub struct SensorBoard {
    /// Instances first, then what can be started.
    pub sensors: Vec<SensorView>,
    pub available: Vec<AvailableSensor>,
    pub selected: usize,
    /// Arguments that are being typed for a start.
    pub typing: Option<String>,
    /// What is wrong with them.
    pub wrong: String,
}

/// What is selected on the board.
enum Selected<'a> {
    Instance(&'a SensorView),
    Available(&'a AvailableSensor),
}

impl SensorBoard {
    pub fn new(list: SensorList) -> Self {
        Self { sensors: list.sensors, available: list.available, ..Self::default() }
    }

    /// Things have changed; where the user is stays, and what is being typed.
    pub fn update(&mut self, list: SensorList) {
        let kept = self.sensors.get(self.selected).map(|sensor| sensor.run);
        self.sensors = list.sensors;
        self.available = list.available;
        let same = kept.and_then(|run| self.sensors.iter().position(|sensor| sensor.run == run));
        let count = self.sensors.len() + self.available.len();
        self.selected = same.unwrap_or(self.selected).min(count.saturating_sub(1));
    }

    fn chosen(&self) -> Option<Selected<'_>> {
        match self.sensors.get(self.selected) {
            Some(instance) => Some(Selected::Instance(instance)),
            None => self.available.get(self.selected - self.sensors.len()).map(Selected::Available),
        }
    }

    fn place(&self) -> Option<(Scope, String)> {
        match self.chosen()? {
            Selected::Instance(sensor) => {
                let scope = Scope { project: sensor.project.clone(), environment: sensor.environment.clone() };
                Some((scope, sensor.target.clone()))
            }
            Selected::Available(sensor) => Some((sensor.scope.clone(), sensor.target.clone())),
        }
    }
}

impl Model {
    /// Asks for the board.
    pub fn ask_sensors(&mut self) {
        self.ask(Purpose::Sensors, Request::Sensors(ListSensors { scope: None }));
    }

    /// A key on the board. The board comes back unless it was closed.
    pub fn press_board(&mut self, mut board: Box<SensorBoard>, key: &str) {
        if let Some(typed) = board.typing.take() {
            self.type_arguments(board, typed, key);
            return;
        }
        let count = board.sensors.len() + board.available.len();
        match key {
            "j" | "down" => board.selected = (board.selected + 1).min(count.saturating_sub(1)),
            "k" | "up" => board.selected = board.selected.saturating_sub(1),
            "enter" => {
                if let Some(Selected::Instance(sensor)) = board.chosen() {
                    self.open_run(sensor.run, None);
                    return;
                }
                board.typing = Some(String::new());
            }
            "s" => {
                let typed = match board.chosen() {
                    Some(Selected::Instance(sensor)) => sensor.arguments.replace(", ", " "),
                    _ => String::new(),
                };
                board.typing = (count > 0).then_some(typed);
            }
            "x" => {
                if let Some(Selected::Instance(sensor)) = board.chosen() {
                    // Of several instances this one.
                    let id = Id::Run(sensor.run);
                    self.ask(Purpose::SensorChanged, Request::Cancel(Cancel { id, force: false }));
                }
            }
            _ => {}
        }
        self.overlay = Some(Overlay::Sensors(board));
    }

    fn type_arguments(&mut self, mut board: Box<SensorBoard>, mut typed: String, key: &str) {
        match key {
            "enter" => match (values(&typed), board.place()) {
                (Ok(arguments), Some((scope, target))) => {
                    let start = SensorStart { scope, target, arguments, named: Vec::new(), fresh: false };
                    self.ask(Purpose::SensorChanged, Request::SensorStart(start));
                    board.wrong.clear();
                }
                (Err(wrong), _) => {
                    board.wrong = wrong;
                    board.typing = Some(typed);
                }
                (Ok(_), None) => {}
            },
            "esc" => {}
            "backspace" => {
                typed.pop();
                board.typing = Some(typed);
            }
            "space" => board.typing = Some(typed + " "),
            key if key.chars().count() == 1 => board.typing = Some(typed + key),
            _ => board.typing = Some(typed),
        }
        self.overlay = Some(Overlay::Sensors(board));
    }
}

/// JSON values with spaces between them; a word that is none is a string.
fn values(text: &str) -> Result<Vec<Json>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Box<serde_json::value::RawValue>>();
        let end = match stream.next() {
            Some(Ok(value)) => {
                let end = stream.byte_offset();
                found.push(Json::parse(value.get()).map_err(|error| error.to_string())?);
                end
            }
            _ if rest.starts_with(['"', '[', '{']) => return Err(format!("this is not finished: {rest}")),
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                found.push(Json::string(&rest[..end]));
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn arguments_are_values_with_spaces_between() {
        let read = |text: &str| values(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(read(r#" 1 "a b" [1, 2] word "#).unwrap(), ["1", r#""a b""#, "[1, 2]", r#""word""#]);
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert!(read("[1, ").is_err());
    }
}
