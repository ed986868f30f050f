//! Plays the scenarios of tests/clients/README.md with async-nats, and prints one line of JSON for each.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, Message, Request, RequestErrorKind, ServerError, Subscriber,
};
use base64::Engine;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(15);
const MAILBOX: &str = "$mq9.AI.MAILBOX.";

type Failure = Box<dyn Error + Send + Sync>;
type Outcome<T = Value> = Result<T, Failure>;

fn say(line: &Value) {
    println!("{line}");
    stdout().flush().expect("standard output is open");
}

fn options() -> ConnectOptions {
    ConnectOptions::new()
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .reconnect_delay_callback(|_| Duration::from_millis(50))
}

async fn dial(options: ConnectOptions) -> Outcome<Client> {
    Ok(options.connect(env::var("NATS_URL")?).await?)
}

/// A client, and what it tells of itself.
async fn watched(options: ConnectOptions) -> Outcome<(Client, UnboundedReceiver<Event>)> {
    let (tell, events) = unbounded_channel();
    let client = dial(options.event_callback(move |event| {
        let _ = tell.send(event);
        async {}
    }))
    .await?;
    Ok((client, events))
}

async fn until_event(events: &mut UnboundedReceiver<Event>, wanted: impl Fn(&Event) -> bool) -> Outcome<()> {
    loop {
        let event = timeout(PATIENCE, events.recv()).await?.ok_or("the client is gone")?;
        if wanted(&event) {
            return Ok(());
        }
    }
}

/// Has the server stopped and started again, and comes back when the client is connected anew.
async fn restart(events: &mut UnboundedReceiver<Event>) -> Outcome<()> {
    say(&json!({"ask": "restart"}));
    tokio::task::spawn_blocking(|| stdin().read_line(&mut String::new())).await??;
    until_event(events, |event| matches!(event, Event::Disconnected)).await?;
    until_event(events, |event| matches!(event, Event::Connected)).await
}

async fn until(condition: impl Fn() -> bool) -> Outcome<()> {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(timeout(PATIENCE, waiting).await?)
}

async fn next(subscription: &mut Subscriber) -> Outcome<Message> {
    timeout(PATIENCE, subscription.next()).await?.ok_or_else(|| "the subscription has ended".into())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn header(message: &Message, name: &str) -> Option<String> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned())
}

async fn ask(client: &Client, subject: impl Into<String>, body: Value) -> Outcome {
    let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    Ok(serde_json::from_slice(&client.request(subject.into(), payload).await?.payload)?)
}

/// Counts, on a task of its own, what comes; and keeps it.
fn collect(mut subscription: Subscriber) -> Arc<Mutex<Vec<String>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let kept = found.clone();
    tokio::spawn(async move {
        while let Some(message) = subscription.next().await {
            kept.lock().unwrap().push(text(&message.payload));
        }
    });
    found
}

fn count(found: &Mutex<Vec<String>>) -> usize {
    found.lock().unwrap().len()
}

// core NATS

async fn connecting() -> Outcome {
    let client = dial(options()).await?;
    let info = client.server_info();
    Ok(json!({"max_payload": info.max_payload, "has_client_id": info.client_id > 0, "headers": info.headers}))
}

async fn publish_subscribe() -> Outcome {
    let client = dial(options()).await?;
    let mut subscription = client.subscribe("flow.a").await?;
    for number in 0..500 {
        client.publish("flow.a", number.to_string().into()).await?;
    }
    client.publish("flow.a", vec![0; client.server_info().max_payload].into()).await?;
    client.publish("flow.a", Bytes::new()).await?;
    let mut in_order = true;
    for number in 0..500 {
        in_order &= text(&next(&mut subscription).await?.payload) == number.to_string();
    }
    let largest = next(&mut subscription).await?.payload.len();
    let empty = next(&mut subscription).await?.payload.len();
    Ok(json!({"in_order": in_order, "largest": largest, "empty": empty}))
}

async fn wildcards() -> Outcome {
    let client = dial(options()).await?;
    let mut subscriptions = Vec::new();
    for pattern in ["wild.*.end", "wild.>"] {
        subscriptions.push((pattern, client.subscribe(pattern).await?));
    }
    for subject in ["wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end"] {
        client.publish(subject, Bytes::new()).await?;
    }
    let mut found = BTreeSet::new();
    for (pattern, subscription) in &mut subscriptions {
        loop {
            let subject = next(subscription).await?.subject;
            found.insert(format!("{pattern} {subject}"));
            if subject.as_str() == "wild.last.end" {
                break;
            }
        }
    }
    Ok(json!({"got": found}))
}

async fn queues() -> Outcome {
    let (first, second) = (dial(options()).await?, dial(options()).await?);
    let mut members = Vec::new();
    for (client, queue) in [(&first, "workers"), (&first, "workers"), (&second, "workers"), (&second, "auditors")] {
        members.push(collect(client.queue_subscribe("jobs", queue.into()).await?));
    }
    let plain = collect(first.subscribe("jobs").await?);
    // A flush of this client ends when its bytes are written, which does not say that the server has read them.
    for client in [&first, &second] {
        round_trip_of(client).await?;
    }
    for _ in 0..120 {
        first.publish("jobs", "job".into()).await?;
    }
    let workers = || members[..3].iter().map(|each| count(each)).sum::<usize>();
    until(|| workers() >= 120 && count(&members[3]) >= 120 && count(&plain) >= 120).await?;
    for client in [&first, &second] {
        round_trip_of(client).await?;
    }
    let all_worked = members[..3].iter().all(|each| count(each) > 0);
    Ok(json!({"workers": workers(), "auditors": count(&members[3]), "plain": count(&plain), "all_worked": all_worked}))
}

/// Comes back when the server has dealt with everything that the client has said.
async fn round_trip_of(client: &Client) -> Outcome<()> {
    let subject = client.new_inbox();
    let mut subscription = client.subscribe(subject.clone()).await?;
    client.publish(subject, Bytes::new()).await?;
    next(&mut subscription).await?;
    Ok(())
}

async fn requests(own_inbox: bool) -> Outcome {
    let (client, service) = (dial(options()).await?, dial(options()).await?);
    let mut questions = service.subscribe("service.echo").await?;
    round_trip_of(&service).await?;
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let answer = format!("to {}", text(&question.payload));
            if let Some(reply) = question.reply {
                let _ = service.publish(reply, answer.into()).await;
            }
        }
    });
    let asked = (0..50).map(|number: usize| {
        let client = client.clone();
        async move {
            let mut request = Request::new().payload(number.to_string().into());
            if own_inbox {
                request = request.inbox(client.new_inbox());
            }
            let answer = client.send_request("service.echo", request).await;
            answer.is_ok_and(|answer| text(&answer.payload) == format!("to {number}"))
        }
    });
    let right = join_all(asked).await.into_iter().filter(|right| *right).count();
    Ok(json!({"right": right}))
}

async fn headers() -> Outcome {
    let client = dial(options()).await?;
    let mut subscription = client.subscribe("headed").await?;
    let mut some = HeaderMap::new();
    for (name, value) in [("X-Case", "Kept"), ("lower", "a: b")] {
        some.insert(name, value);
    }
    client.publish_with_headers("headed", some, "body".into()).await?;
    let mut only = HeaderMap::new();
    only.insert("only", "this");
    client.publish_with_headers("headed", only, Bytes::new()).await?;
    client.publish("headed", "none".into()).await?;
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(next(&mut subscription).await?);
    }
    Ok(json!({
        "first": {
            "X-Case": header(&messages[0], "X-Case"),
            "lower": header(&messages[0], "lower"),
        },
        "bodies": messages.iter().map(|message| text(&message.payload)).collect::<Vec<_>>(),
        "only": header(&messages[1], "only"),
        "none": messages[2].headers.is_none(),
    }))
}

async fn header_empty() -> Outcome {
    let client = dial(options()).await?;
    let mut subscription = client.subscribe("headed.empty").await?;
    let mut empty = HeaderMap::new();
    empty.insert("empty", "");
    client.publish_with_headers("headed.empty", empty, Bytes::new()).await?;
    Ok(json!({"values": [header(&next(&mut subscription).await?, "empty")]}))
}

async fn header_twice() -> Outcome {
    let client = dial(options()).await?;
    let mut subscription = client.subscribe("headed.twice").await?;
    let mut twice = HeaderMap::new();
    twice.append("X-Two", "a");
    twice.append("X-Two", "b");
    client.publish_with_headers("headed.twice", twice, Bytes::new()).await?;
    let message = next(&mut subscription).await?;
    let headers = message.headers.ok_or("there are no headers")?;
    Ok(json!({"values": headers.get_all("X-Two").map(|value| value.as_str()).collect::<Vec<_>>()}))
}

async fn no_responders() -> Outcome {
    let client = dial(options()).await?;
    let answer = client.request("nobody.is.there", Bytes::new()).await;
    Ok(json!({"no_responders": answer.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)}))
}

async fn unsubscribe() -> Outcome {
    let client = dial(options()).await?;
    let mut limited = client.subscribe("few").await?;
    let mut witness = client.subscribe("few").await?;
    limited.unsubscribe_after(3).await?;
    for number in 0..10 {
        client.publish("few", number.to_string().into()).await?;
    }
    for _ in 0..10 {
        next(&mut witness).await?;
    }
    let mut got = 0;
    while timeout(PATIENCE, limited.next()).await?.is_some() {
        got += 1;
    }
    Ok(json!({"limited": got, "witness": 10}))
}

async fn no_echo() -> Outcome {
    let (quiet, other) = (dial(options().no_echo()).await?, dial(options()).await?);
    let mut subscription = quiet.subscribe("echoes").await?;
    quiet.publish("echoes", "mine".into()).await?;
    // It does not hear itself: that the server has dealt with this is told by an answer of the other client.
    let mut seen = other.subscribe("echoes.seen").await?;
    round_trip_of(&other).await?;
    quiet.publish("echoes.seen", Bytes::new()).await?;
    next(&mut seen).await?;
    other.publish("echoes", "theirs".into()).await?;
    Ok(json!({"got": text(&next(&mut subscription).await?.payload)}))
}

async fn drain() -> Outcome {
    let (receiver, mut events) = watched(options()).await?;
    let publisher = dial(options()).await?;
    let handled = collect(receiver.subscribe("drained").await?);
    round_trip_of(&receiver).await?;
    for _ in 0..200 {
        publisher.publish("drained", "x".into()).await?;
    }
    round_trip_of(&publisher).await?;
    receiver.drain().await?;
    until_event(&mut events, |event| matches!(event, Event::Closed)).await?;
    until(|| count(&handled) >= 200).await?;
    Ok(json!({"handled": count(&handled), "closed": true}))
}

async fn reconnect() -> Outcome {
    let (client, mut events) = watched(options()).await?;
    let mut several = vec![
        client.subscribe("again.a").await?,
        client.queue_subscribe("again.q", "group".into()).await?,
        client.subscribe("again.w.*").await?,
    ];
    let mut limited = client.subscribe("again.a").await?;
    limited.unsubscribe_after(3).await?;
    let mut found = Vec::new();
    for again in [false, true] {
        if again {
            restart(&mut events).await?;
        }
        for subject in ["again.a", "again.q", "again.w.x"] {
            client.publish(subject, "x".into()).await?;
        }
        let mut round = Vec::new();
        for subscription in &mut several {
            round.push(next(subscription).await?.subject.to_string());
        }
        next(&mut limited).await?;
        found.push(round);
    }
    client.publish("again.a", "x".into()).await?;
    next(&mut limited).await?;
    client.publish("again.a", "x".into()).await?;
    let ended = timeout(PATIENCE, limited.next()).await?.is_none();
    Ok(json!({"before": found[0], "after": found[1], "limited_has_ended": ended}))
}

// mailboxes

async fn create(client: &Client, name: &str, public: bool) -> Outcome<String> {
    let answer = ask(client, format!("{MAILBOX}CREATE"), json!({"name": name, "public": public, "ttl": 3600})).await?;
    Ok(answer["mail_id"].as_str().ok_or("there is no mail_id")?.to_owned())
}

async fn send(client: &Client, mail_id: &str, priority: &str, payload: &str) -> Outcome<u64> {
    let answer = client.request(format!("{MAILBOX}MSG.{mail_id}{priority}"), payload.to_owned().into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    answer["msg_id"].as_u64().ok_or_else(|| answer.to_string().into())
}

fn column(rows: &Value, name: &str) -> Vec<Value> {
    rows.as_array().into_iter().flatten().map(|row| row[name].clone()).collect()
}

fn is_private(mail_id: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_lowercase() || ('2'..='7').contains(&letter);
    mail_id.strip_prefix("m-").is_some_and(|rest| rest.len() == 26 && rest.chars().all(letters))
}

async fn mailbox_create() -> Outcome {
    let client = dial(options()).await?;
    let subject = format!("{MAILBOX}CREATE");
    let made = ask(&client, &subject, Value::Null).await?;
    let first = ask(&client, &subject, json!({"name": "create.one", "ttl": 60})).await?;
    let second = ask(&client, &subject, json!({"name": "create.one", "ttl": 90})).await?;
    Ok(json!({
        "private": is_private(made["mail_id"].as_str().unwrap_or("")),
        "name": first["mail_id"],
        "is_new": [made["is_new"], first["is_new"], second["is_new"]],
        "ttl": second["ttl"],
    }))
}

fn shown(message: &Message) -> String {
    format!("{} {}", header(message, "mq9-priority").unwrap_or_default(), text(&message.payload))
}

async fn mailbox_receive() -> Outcome {
    let client = dial(options()).await?;
    let name = create(&client, "receive.one", false).await?;
    let subject = format!("{MAILBOX}MSG.{name}");
    let low = send(&client, &name, ".low", "later").await?;
    let normal = send(&client, &name, "", "next").await?;
    let mut own = HeaderMap::new();
    own.insert("mq9-priority", "high");
    own.insert("my-own", "kept");
    let answer = client.request_with_headers(subject.clone(), own, "first".into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    let ids = [answer["msg_id"].to_string(), normal.to_string(), low.to_string()];
    let mut all = client.subscribe(format!("{subject}.*")).await?;
    let mut high = client.subscribe(format!("{subject}.high")).await?;
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(next(&mut all).await?);
    }
    client.publish(format!("{subject}.urgent"), "live".into()).await?;
    let live = shown(&next(&mut all).await?);
    send(&client, &name, ".high", "again").await?;
    let right = messages.iter().zip(&ids).all(|(message, id)| header(message, "mq9-msg-id").as_ref() == Some(id));
    Ok(json!({
        "got": messages.iter().map(shown).collect::<Vec<_>>(),
        "right": right && header(&messages[0], "my-own").as_deref() == Some("kept"),
        "pending": header(&messages[2], "mq9-pending"),
        "live": live,
        "high": [text(&next(&mut high).await?.payload), text(&next(&mut high).await?.payload)],
    }))
}

async fn mailbox_fetch() -> Outcome {
    let client = dial(options()).await?;
    let name = create(&client, "fetch.one", false).await?;
    for payload in ["a", "b", "c"] {
        send(&client, &name, "", payload).await?;
    }
    let first = ask(&client, format!("{MAILBOX}LIST.{name}"), json!({"limit": 2})).await?;
    let second = ask(&client, format!("{MAILBOX}LIST.{name}"), json!({"limit": 2, "after": first["next"]})).await?;
    let pages = [column(&first["messages"], "payload"), column(&second["messages"], "payload")];
    Ok(json!({"pages": pages, "end": second["next"].is_null()}))
}

async fn mailbox_delete() -> Outcome {
    let client = dial(options()).await?;
    let name = create(&client, "delete.one", false).await?;
    let id = send(&client, &name, "", "a").await?;
    send(&client, &name, "", "b").await?;
    let mut deleted = Vec::new();
    for _ in 0..2 {
        let answer = ask(&client, format!("{MAILBOX}DELETE.{name}.{id}"), Value::Null).await?;
        deleted.push(answer["deleted"].clone());
    }
    let left = ask(&client, format!("{MAILBOX}LIST.{name}"), Value::Null).await?;
    let removed = ask(&client, format!("{MAILBOX}REMOVE.{name}"), Value::Null).await?;
    let refusal = client.request(format!("{MAILBOX}LIST.{name}"), Bytes::new()).await?;
    Ok(json!({
        "deleted": deleted,
        "left": column(&left["messages"], "payload"),
        "removed": removed["deleted"],
        "code": header(&refusal, "Nats-Service-Error-Code"),
    }))
}

async fn mailbox_list() -> Outcome {
    let client = dial(options()).await?;
    create(&client, "list.one", true).await?;
    let mut subscription = client.subscribe("$mq9.AI.PUBLIC.LIST").await?;
    let mut events = Vec::new();
    let mut listed = Vec::new();
    for step in 0..3 {
        match step {
            1 => {
                create(&client, "list.two", true).await?;
            }
            2 => {
                let answer = ask(&client, "$mq9.AI.PUBLIC.LIST", json!({"prefix": "list."})).await?;
                listed = column(&answer["mailboxes"], "mail_id");
                ask(&client, format!("{MAILBOX}REMOVE.list.two"), Value::Null).await?;
            }
            _ => {}
        }
        let said: Value = serde_json::from_slice(&next(&mut subscription).await?.payload)?;
        let part = |name: &str| said[name].as_str().unwrap_or("").to_owned();
        events.push(format!("{} {}", part("event"), part("mail_id")));
    }
    ask(&client, format!("{MAILBOX}REMOVE.list.one"), Value::Null).await?;
    Ok(json!({"events": events, "listed": listed}))
}

async fn fetch_work(client: &Client, name: &str, count: usize) -> Outcome<(Vec<String>, Vec<Value>)> {
    let request = json!({
        "group_name": "workers", "lease_ms": 60_000, "config": {"num_msgs": count, "max_wait_ms": 0},
    });
    let answer = ask(client, format!("$mq9.AI.MSG.FETCH.{name}"), request).await?;
    let mut found = Vec::new();
    for message in answer["messages"].as_array().ok_or("there are no messages")? {
        let payload = message["payload"].as_str().ok_or("there is no payload")?;
        let payload = base64::engine::general_purpose::STANDARD.decode(payload)?;
        found.push(format!("{} {}", String::from_utf8_lossy(&payload), message["attempt"]));
    }
    Ok((found, column(&answer["messages"], "msg_id")))
}

async fn acknowledge(client: &Client, name: &str, op: &str, ids: &[Value]) -> Outcome {
    let request = json!({"group_name": "workers", "msg_ids": ids, "op": op});
    Ok(ask(client, format!("$mq9.AI.MSG.ACK.{name}"), request).await?["error"].clone())
}

async fn mailbox_work() -> Outcome {
    let client = dial(options()).await?;
    let name = create(&client, "work.one", false).await?;
    for payload in ["a", "b", "c"] {
        send(&client, &name, "", payload).await?;
    }
    let (first, ids) = fetch_work(&client, &name, 2).await?;
    let acked = acknowledge(&client, &name, "ack", &ids[..1]).await?;
    let nacked = acknowledge(&client, &name, "nack", &ids[1..]).await?;
    let (second, _) = fetch_work(&client, &name, 10).await?;
    let (third, _) = fetch_work(&client, &name, 10).await?;
    Ok(json!({"first": first, "acked": acked, "nacked": nacked, "second": second, "third": third}))
}

async fn mailbox_workers() -> Outcome {
    let (first, second) = (dial(options()).await?, dial(options()).await?);
    let name = create(&first, "workers.one", false).await?;
    let mut members = Vec::new();
    for client in [&first, &second] {
        members.push(collect(client.queue_subscribe(format!("{MAILBOX}MSG.{name}"), "workers".into()).await?));
        round_trip_of(client).await?;
    }
    for number in 0..40 {
        send(&first, &name, "", &number.to_string()).await?;
    }
    let found = || members.iter().flat_map(|each| each.lock().unwrap().clone()).collect::<Vec<_>>();
    until(|| found().into_iter().collect::<BTreeSet<_>>().len() == 40).await?;
    for client in [&first, &second] {
        round_trip_of(client).await?;
    }
    Ok(json!({"handled": found().len()}))
}

/// A client that has published to a `subject` that is refused, and how many refusals it has heard of.
async fn refusal(subject: &str, options: ConnectOptions) -> Outcome<(Client, usize)> {
    let heard = Arc::new(AtomicUsize::new(0));
    let hearing = heard.clone();
    let client = dial(options.event_callback(move |event| {
        if let Event::ServerError(ServerError::Other(said)) = event {
            hearing.fetch_add(usize::from(said.to_lowercase().contains("permissions violation")), Ordering::SeqCst);
        }
        async {}
    }))
    .await?;
    client.publish(subject.to_owned(), "hello".into()).await?;
    until(|| heard.load(Ordering::SeqCst) == 1).await?;
    Ok((client, heard.load(Ordering::SeqCst)))
}

async fn mailbox_refusal() -> Outcome {
    let (client, heard) = refusal(&format!("{MAILBOX}MSG.nobody"), options()).await?;
    round_trip_of(&client).await?;
    Ok(json!({"heard": heard, "connected": client.connection_state() == State::Connected}))
}

async fn mailbox_restart() -> Outcome {
    let (client, mut events) = watched(options()).await?;
    let name = create(&client, "restart.one", false).await?;
    let mut subscription = client.subscribe(format!("{MAILBOX}MSG.{name}.*")).await?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for payload in ["a", "b"] {
        send(&client, &name, "", payload).await?;
        before.push(text(&next(&mut subscription).await?.payload));
    }
    restart(&mut events).await?;
    send(&client, &name, "", "c").await?;
    for _ in 0..3 {
        after.push(text(&next(&mut subscription).await?.payload));
    }
    let stored = ask(&client, format!("{MAILBOX}LIST.{name}"), Value::Null).await?;
    Ok(json!({"before": before, "after": after, "stored": column(&stored["messages"], "payload")}))
}

async fn mailbox_work_restart() -> Outcome {
    let (client, mut events) = watched(options()).await?;
    let name = create(&client, "restart.work", false).await?;
    for payload in ["a", "b"] {
        send(&client, &name, "", payload).await?;
    }
    let (first, mut ids) = fetch_work(&client, &name, 1).await?;
    restart(&mut events).await?;
    let (second, more) = fetch_work(&client, &name, 10).await?;
    ids.extend(more);
    let acked = acknowledge(&client, &name, "ack", &ids).await?;
    Ok(json!({"first": first, "second": second, "acked": acked}))
}

// who may come in

fn credentials() -> Outcome<ConnectOptions> {
    let mut options = options();
    if let Ok(user) = env::var("NATS_USER") {
        options = options.user_and_password(user, env::var("NATS_PASSWORD")?);
    }
    if let Ok(token) = env::var("NATS_TOKEN") {
        options = options.token(token);
    }
    if let Ok(file) = env::var("NATS_NKEY_SEED_FILE") {
        options = options.nkey(std::fs::read_to_string(file)?.trim().to_owned());
    }
    if let Ok(file) = env::var("NATS_CA") {
        options = options.add_root_certificates(file.into());
    }
    if let Ok(file) = env::var("NATS_CERT") {
        options = options.add_client_certificate(file.into(), env::var("NATS_KEY")?.into());
    }
    if env::var("NATS_TLS_FIRST").is_ok() {
        options = options.tls_first();
    }
    Ok(options)
}

async fn round_trip() -> Outcome {
    let client = dial(credentials()?).await?;
    let mut subscription = client.subscribe("open.a").await?;
    client.publish("open.a", "hello".into()).await?;
    Ok(json!({"got": text(&next(&mut subscription).await?.payload)}))
}

async fn refused() -> Outcome {
    Ok(json!({"refused": dial(credentials()?.max_reconnects(1)).await.is_err()}))
}

async fn permissions() -> Outcome {
    let (client, heard) = refusal("closed.a", credentials()?).await?;
    let mut subscription = client.subscribe("open.a").await?;
    client.publish("open.a", "hello".into()).await?;
    Ok(json!({"heard": heard, "got": text(&next(&mut subscription).await?.payload)}))
}

async fn play(name: &str) -> Outcome {
    match name {
        "connect" => connecting().await,
        "publish_subscribe" => publish_subscribe().await,
        "wildcards" => wildcards().await,
        "queues" => queues().await,
        "requests" => requests(false).await,
        "requests_old_style" => requests(true).await,
        "headers" => headers().await,
        "header_twice" => header_twice().await,
        "header_empty" => header_empty().await,
        "no_responders" => no_responders().await,
        "unsubscribe" => unsubscribe().await,
        "no_echo" => no_echo().await,
        "drain" => drain().await,
        "reconnect" => reconnect().await,
        "mailbox_create" => mailbox_create().await,
        "mailbox_receive" => mailbox_receive().await,
        "mailbox_fetch" => mailbox_fetch().await,
        "mailbox_delete" => mailbox_delete().await,
        "mailbox_list" => mailbox_list().await,
        "mailbox_work" => mailbox_work().await,
        "mailbox_workers" => mailbox_workers().await,
        "mailbox_refusal" => mailbox_refusal().await,
        "mailbox_restart" => mailbox_restart().await,
        "mailbox_work_restart" => mailbox_work_restart().await,
        "round_trip" => round_trip().await,
        "refused" => refused().await,
        "permissions" => permissions().await,
        _ => Err("there is no such scenario".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for name in env::args().skip(1) {
        match play(&name).await {
            Ok(result) => say(&json!({"scenario": name, "result": result})),
            Err(error) => say(&json!({"scenario": name, "error": error.to_string()})),
        }
    }
}
