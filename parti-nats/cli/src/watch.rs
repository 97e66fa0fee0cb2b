//! `parti watch`: the group as it changes, on a terminal; piped, a line for each change of its state.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::Duration;

use parti_nats::{Observer, Picture};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};
use ratatui::{DefaultTerminal, Frame};

use crate::arguments::Global;
use crate::connect::Link;
use crate::failure::{FINE, Failure};
use crate::look::{Outlook, Share, sentence, state_of};
use crate::show::{self, Tone, count, human, print, rfc3339};

/// How often the picture is drawn anew though nothing has changed: ages go on.
const TICK: Duration = Duration::from_millis(250);
/// How many events of the past are kept.
const REMEMBERED: usize = 200;
/// How wide the bar of a worker's load is.
const BAR: usize = 20;

pub(crate) async fn watch(global: &Global) -> Result<u8, Failure> {
    let link = Link::open(global).await?;
    let observer = link.observe().await?;
    if io::stdout().is_terminal() && !global.json {
        let colour = show::Style::of_stdout().has_colour();
        let end = told_to_end().map_err(|error| failed(&error))?;
        let mut terminal = ratatui::try_init().map_err(|error| failed(&error))?;
        // However it ends, the terminal is given back.
        let shown = tokio::select! {
            shown = show_live(&mut terminal, &observer, colour) => shown,
            () = end => Ok(()),
        };
        ratatui::restore();
        return shown.map(|()| FINE);
    }
    follow(global, &observer).await
}

/// Comes when somebody outside has this process end; listened for from the call on.
#[cfg(unix)]
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Where it cannot be listened for, keys end it.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn failed(error: &io::Error) -> Failure {
    Failure::cannot_tell(format!("tried to use the terminal: {error}: use `parti status`, or pipe this into a file"))
}

/// A line or a document for each change of what the group waits for.
async fn follow(global: &Global, observer: &Observer) -> Result<u8, Failure> {
    let mut told = None;
    loop {
        let picture = observer.snapshot();
        let outlook = Outlook::of(&picture);
        let state =
            (outlook.waits.iter().map(std::mem::discriminant).collect::<Vec<_>>(), picture.generation(), picture.live);
        if told.as_ref() != Some(&state) {
            let text = sentence(&picture, &outlook);
            let line = if global.json {
                let fields = serde_json::json!({
                    "at": rfc3339(picture.taken_at), "settled": outlook.is_settled(), "sentence": text,
                    "generation": picture.generation(), "waits_for": outlook.waits,
                });
                show::document("watch", picture.group.as_str(), fields).to_string()
            } else {
                format!("{} generation {}: {text}", rfc3339(picture.taken_at), picture.generation())
            };
            print(&(line + "\n"))?;
            told = Some(state);
        }
        let before = (picture.members.revision, picture.plan.revision, picture.live);
        let changed = |picture: &Picture| (picture.members.revision, picture.plan.revision, picture.live) != before;
        tokio::select! {
            // Whether something has changed in time, the picture says.
            _ = observer.wait_for(Duration::from_secs(1), changed) => {}
            _ = tokio::signal::ctrl_c() => return Ok(FINE),
        }
    }
}

async fn show_live(terminal: &mut DefaultTerminal, observer: &Observer, colour: bool) -> Result<(), Failure> {
    let mut past = Past::default();
    let mut first = 0;
    loop {
        let picture = observer.snapshot();
        past.observe(&picture);
        let scene = Scene::of(&picture, &past);
        terminal.draw(|frame| scene.draw(frame, &mut first, colour)).map_err(|error| failed(&error))?;
        while event::poll(Duration::ZERO).map_err(|error| failed(&error))? {
            let Event::Key(key) = event::read().map_err(|error| failed(&error))? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Down | KeyCode::Char('j') => first += 1,
                KeyCode::Up | KeyCode::Char('k') => first = first.saturating_sub(1),
                KeyCode::PageDown => first += 10,
                KeyCode::PageUp => first = first.saturating_sub(10),
                KeyCode::Home => first = 0,
                _ => {}
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

/// What was seen since the beginning.
#[derive(Default)]
struct Past {
    generation: Option<u64>,
    leader: Option<String>,
    live: bool,
    lines: VecDeque<String>,
}

impl Past {
    fn observe(&mut self, picture: &Picture) {
        let at = rfc3339(picture.taken_at);
        let time = &at[11..19];
        let generation = picture.generation().value();
        if self.generation.is_some_and(|known| known != generation) {
            let moving = picture.partitions().iter().filter(|partition| partition.is_moving()).count();
            self.note(format!("{time} generation {generation}, {} moving", count(moving, "partition")));
        }
        self.generation = Some(generation);
        let leader = picture.acting_leader().map(|leader| format!("worker-{}", leader.slot));
        if self.leader != leader {
            let name = leader.as_deref().unwrap_or("nobody");
            self.note(format!("{time} {name} leads"));
            self.leader = leader;
        }
        if self.live != picture.live {
            self.note(format!("{time} the store {}", if picture.live { "is read" } else { "cannot be read" }));
            self.live = picture.live;
        }
    }

    fn note(&mut self, line: String) {
        self.lines.push_front(line);
        self.lines.truncate(REMEMBERED);
    }
}

/// What is drawn: everything as text already.
struct Scene {
    title: String,
    sentence: String,
    is_settled: bool,
    is_live: bool,
    workers: Vec<WorkerLine>,
    moves: Vec<String>,
    past: Vec<String>,
}

struct WorkerLine {
    name: String,
    state: String,
    tone: Tone,
    /// Of the greatest load per capacity, in [`BAR`] parts.
    bar: usize,
    owned: String,
    age: String,
}

impl Scene {
    fn of(picture: &Picture, past: &Past) -> Self {
        let outlook = Outlook::of(picture);
        let shares = picture.workers.values().map(|worker| (worker, Share::of(picture, worker)));
        let shares: Vec<_> = shares.collect();
        let relative = |load: u64, capacity: u32| load * 1_000 / u64::from(capacity.max(1));
        let peak =
            shares.iter().map(|(worker, share)| relative(share.load, worker.record.capacity)).max().unwrap_or(0).max(1);
        let leader = picture.acting_leader().map(|leader| leader.slot);
        let workers = shares.iter().map(|(worker, share)| {
            let (state, tone) = state_of(picture, worker);
            let leads = if leader == Some(worker.slot) { ", leads" } else { "" };
            let filled = relative(share.load, worker.record.capacity) * BAR as u64 / peak;
            WorkerLine {
                name: format!("worker-{}", worker.slot),
                state: format!("{state}{leads}"),
                tone,
                bar: usize::try_from(filled).unwrap_or(BAR),
                owned: format!("{} +{} -{}", share.owned, share.incoming, share.releasing),
                age: picture.age(worker.written).map(human).unwrap_or_default(),
            }
        });
        let partitions = picture.partitions();
        let moving = partitions.iter().filter(|partition| partition.is_moving() || partition.owner.is_none());
        let name =
            |slot: Option<parti_nats::Slot>| slot.map_or_else(|| "nobody".to_owned(), |slot| format!("worker-{slot}"));
        let moves = moving.map(|partition| {
            let from = partition.releasing.or(partition.owner.map(|owner| owner.slot));
            format!(
                "{}: {} → {}",
                parti_nats::harmless(partition.id.as_str(), 40),
                name(from),
                name(partition.incoming)
            )
        });
        Self {
            title: format!(
                " {} · generation {} · {} ",
                picture.group,
                picture.generation(),
                count(partitions.len(), "partition")
            ),
            sentence: sentence(picture, &outlook),
            is_settled: outlook.is_settled(),
            is_live: picture.live,
            workers: workers.collect(),
            moves: moves.take(500).collect(),
            past: past.lines.iter().cloned().collect(),
        }
    }

    /// Draws it all; `first` is the worker at the top, and is set back where there are not so many.
    fn draw(&self, frame: &mut Frame<'_>, first: &mut usize, colour: bool) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(5), Constraint::Min(5), Constraint::Length(1)]).areas(frame.area());
        let paint = |tone| paint(tone, colour);
        let tone = if self.is_settled { Tone::Good } else { Tone::Notable };
        let stale = if self.is_live { "" } else { "STALE: the store cannot be read. " };
        let text = vec![Line::from(vec![
            Span::styled(stale, paint(Tone::Bad)),
            Span::styled(self.sentence.as_str(), paint(tone)),
        ])];
        let block = Block::bordered().title(self.title.as_str());
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), head);

        let [left, right] = Layout::horizontal([Constraint::Percentage(65), Constraint::Percentage(35)]).areas(body);
        let room = usize::from(left.height.saturating_sub(3)).max(1);
        *first = (*first).min(self.workers.len().saturating_sub(room));
        let rows = self.workers.iter().skip(*first).map(|worker| {
            let bar = "█".repeat(worker.bar) + &"·".repeat(BAR.saturating_sub(worker.bar));
            let cells = [
                Span::raw(worker.name.clone()),
                Span::styled(worker.state.clone(), paint(worker.tone)),
                Span::raw(bar),
                Span::raw(worker.owned.clone()),
                Span::raw(worker.age.clone()),
            ];
            Row::new(cells.map(Line::from))
        });
        let widths = [12, 18, 20, 14, 12].map(Constraint::Length);
        let header =
            Row::new(["WORKER", "STATE", "LOAD", "OWNS", "RENEWED"]).style(Style::new().add_modifier(Modifier::BOLD));
        let title = format!(" {} ", count(self.workers.len(), "worker"));
        frame.render_widget(Table::new(rows, widths).header(header).block(Block::bordered().title(title)), left);

        let [moves, past] = Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(right);
        let list = |lines: &[String], title: String| {
            let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::from(line.clone())).collect();
            Paragraph::new(lines).block(Block::bordered().title(title))
        };
        frame.render_widget(list(&self.moves, format!(" {} moving or unowned ", self.moves.len())), moves);
        frame.render_widget(list(&self.past, " seen ".to_owned()), past);
        frame.render_widget(Paragraph::new(" q quits · ↑ ↓ move through the workers"), foot);
    }
}

fn paint(tone: Tone, colour: bool) -> Style {
    match tone {
        _ if !colour => Style::new(),
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Notable => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn a_scene_is_drawn_with_its_state_its_workers_and_what_moves() {
        let worker = |number: usize| WorkerLine {
            name: format!("worker-{number}"),
            state: "working".to_owned(),
            tone: Tone::Good,
            bar: number % (BAR + 1),
            owned: "3 +1 -0".to_owned(),
            age: "2 s".to_owned(),
        };
        let scene = Scene {
            title: " orders · generation 7 ".to_owned(),
            sentence: "orders is not settled: nobody owns 1 partition.".to_owned(),
            is_settled: false,
            is_live: false,
            workers: (0..200).map(worker).collect(),
            moves: vec!["p-1: nobody → worker-3".to_owned()],
            past: vec!["12:00:00 worker-3 leads".to_owned()],
        };
        let mut terminal = Terminal::new(TestBackend::new(120, 20)).expect("it never fails");
        let mut first = 1_000;
        terminal.draw(|frame| scene.draw(frame, &mut first, true)).expect("it never fails");
        let text = terminal.backend().to_string();
        for part in
            ["STALE", "nobody owns 1 partition", "worker-199", "p-1: nobody → worker-3", "worker-3 leads", "q quits"]
        {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(first < 200 && !text.contains("worker-10 "), "the last ones are shown:\n{text}");
        // A terminal that is too small shows less, and nothing breaks.
        let mut tiny = Terminal::new(TestBackend::new(5, 3)).expect("it never fails");
        tiny.draw(|frame| scene.draw(frame, &mut first, false)).expect("it never fails");
    }
}
