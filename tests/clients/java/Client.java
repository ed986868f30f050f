// Plays the scenarios of tests/clients/README.md with jnats, and prints one line of JSON for each.

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.nats.client.Connection;
import io.nats.client.ConnectionListener;
import io.nats.client.ErrorListener;
import io.nats.client.Message;
import io.nats.client.NKey;
import io.nats.client.AuthHandler;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.Subscription;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    static final Duration PATIENCE = Duration.ofSeconds(15);
    static final String MAILBOX = "$mq9.AI.MAILBOX.";
    static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));

    interface Scenario {
        Map<String, Object> play() throws Exception;
    }

    static void say(Object line) {
        System.out.println(JSON.toJson(line));
        System.out.flush();
    }

    static Map<String, Object> result(Object... pairs) {
        Map<String, Object> made = new LinkedHashMap<>();
        for (int at = 0; at < pairs.length; at += 2) made.put((String) pairs[at], pairs[at + 1]);
        return made;
    }

    static Options.Builder options() {
        return new Options.Builder()
            .server(System.getenv("NATS_URL"))
            .maxReconnects(-1)
            .reconnectWait(Duration.ofMillis(50))
            .connectionTimeout(PATIENCE)
            .reportNoResponders()
            .errorListener(new ErrorListener() {});
    }

    static Connection connect() throws Exception {
        return Nats.connect(options().build());
    }

    /** Has the server stopped and started again, and comes back when the client is connected anew. */
    static void restart(CountDownLatch again) throws Exception {
        say(result("ask", "restart"));
        INPUT.readLine();
        if (!again.await(PATIENCE.toSeconds(), TimeUnit.SECONDS)) throw new Exception("the client did not come back");
    }

    static Options.Builder watched(CountDownLatch again) {
        return options().connectionListener((connection, event) -> {
            if (event == ConnectionListener.Events.RESUBSCRIBED) again.countDown();
        });
    }

    static void until(BooleanSupplier condition) throws Exception {
        for (long end = System.nanoTime() + PATIENCE.toNanos(); !condition.getAsBoolean(); Thread.sleep(1)) {
            if (System.nanoTime() > end) throw new Exception("it did not happen in time");
        }
    }

    static Message next(Subscription subscription) throws Exception {
        Message message = subscription.nextMessage(PATIENCE);
        if (message == null) throw new Exception("no message came in time");
        return message;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(Message message) {
        return new String(message.getData(), StandardCharsets.UTF_8);
    }

    static JsonObject ask(Connection client, String subject, Object... pairs) throws Exception {
        byte[] body = pairs.length == 0 ? new byte[0] : bytes(JSON.toJson(result(pairs)));
        return JsonParser.parseString(text(client.request(subject, body, PATIENCE))).getAsJsonObject();
    }

    static List<JsonElement> column(JsonObject answer, String list, String name) {
        List<JsonElement> found = new ArrayList<>();
        for (JsonElement row : answer.getAsJsonArray(list)) found.add(row.getAsJsonObject().get(name));
        return found;
    }

    // core NATS

    static Map<String, Object> connecting() throws Exception {
        try (Connection client = connect()) {
            var info = client.getServerInfo();
            return result(
                "max_payload", client.getMaxPayload(), "has_client_id", info.getClientId() > 0, "headers", info.isHeadersSupported());
        }
    }

    static Map<String, Object> publishSubscribe() throws Exception {
        try (Connection client = connect()) {
            Subscription subscription = client.subscribe("flow.a");
            for (int number = 0; number < 500; number++) client.publish("flow.a", bytes(String.valueOf(number)));
            client.publish("flow.a", new byte[(int) client.getMaxPayload()]);
            client.publish("flow.a", new byte[0]);
            boolean inOrder = true;
            for (int number = 0; number < 500; number++) inOrder &= text(next(subscription)).equals(String.valueOf(number));
            return result(
                "in_order", inOrder, "largest", next(subscription).getData().length, "empty", next(subscription).getData().length);
        }
    }

    static Map<String, Object> wildcards() throws Exception {
        try (Connection client = connect()) {
            TreeSet<String> found = new TreeSet<>();
            List<Subscription> subscriptions = List.of(client.subscribe("wild.*.end"), client.subscribe("wild.>"));
            for (String subject : List.of("wild.a.end", "wild.b.c", "wild", "other.a.end", "wild.last.end")) {
                client.publish(subject, new byte[0]);
            }
            for (Subscription subscription : subscriptions) {
                for (String subject = ""; !subject.equals("wild.last.end"); ) {
                    subject = next(subscription).getSubject();
                    found.add(subscription.getSubject() + " " + subject);
                }
            }
            return result("got", found);
        }
    }

    static Map<String, Object> queues() throws Exception {
        try (Connection first = connect(); Connection second = connect()) {
            AtomicInteger[] counts = new AtomicInteger[5];
            String[] queues = {"workers", "workers", "workers", "auditors", null};
            Connection[] clients = {first, first, second, second, first};
            for (int at = 0; at < 5; at++) {
                AtomicInteger count = counts[at] = new AtomicInteger();
                var dispatcher = clients[at].createDispatcher(message -> count.incrementAndGet());
                if (queues[at] == null) dispatcher.subscribe("jobs");
                else dispatcher.subscribe("jobs", queues[at]);
            }
            first.flush(PATIENCE);
            second.flush(PATIENCE);
            for (int number = 0; number < 120; number++) first.publish("jobs", bytes("job"));
            java.util.function.IntSupplier workers = () -> counts[0].get() + counts[1].get() + counts[2].get();
            until(() -> workers.getAsInt() >= 120 && counts[3].get() >= 120 && counts[4].get() >= 120);
            first.flush(PATIENCE);
            second.flush(PATIENCE);
            boolean all = counts[0].get() > 0 && counts[1].get() > 0 && counts[2].get() > 0;
            return result("workers", workers.getAsInt(), "auditors", counts[3].get(), "plain", counts[4].get(), "all_worked", all);
        }
    }

    static Map<String, Object> requests(Options.Builder options) throws Exception {
        try (Connection client = Nats.connect(options.build()); Connection service = connect()) {
            service.createDispatcher(question -> service.publish(question.getReplyTo(), bytes("to " + text(question))))
                .subscribe("service.echo");
            service.flush(PATIENCE);
            List<CompletableFuture<Message>> answers = new ArrayList<>();
            for (int number = 0; number < 50; number++) {
                answers.add(client.request("service.echo", bytes(String.valueOf(number))));
            }
            int right = 0;
            for (int number = 0; number < 50; number++) {
                Message answer = answers.get(number).get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
                if (text(answer).equals("to " + number)) right++;
            }
            return result("right", right);
        }
    }

    static Map<String, Object> headers() throws Exception {
        try (Connection client = connect()) {
            Subscription subscription = client.subscribe("headed");
            client.publish("headed", new Headers().put("X-Case", "Kept").put("lower", "a: b"), bytes("body"));
            client.publish("headed", new Headers().put("only", "this"), new byte[0]);
            client.publish("headed", bytes("none"));
            Message first = next(subscription), second = next(subscription), third = next(subscription);
            Headers some = first.getHeaders();
            return result(
                "first", result("X-Case", some.getFirst("X-Case"), "lower", some.getFirst("lower")),
                "bodies", List.of(text(first), text(second), text(third)),
                "only", second.getHeaders().getFirst("only"),
                "none", !third.hasHeaders());
        }
    }

    static Map<String, Object> headerEmpty() throws Exception {
        try (Connection client = connect()) {
            Subscription subscription = client.subscribe("headed.empty");
            client.publish("headed.empty", new Headers().put("empty", ""), new byte[0]);
            return result("values", next(subscription).getHeaders().get("empty"));
        }
    }

    static Map<String, Object> headerTwice() throws Exception {
        try (Connection client = connect()) {
            Subscription subscription = client.subscribe("headed.twice");
            client.publish("headed.twice", new Headers().add("X-Two", "a", "b"), new byte[0]);
            return result("values", next(subscription).getHeaders().get("X-Two"));
        }
    }

    static Map<String, Object> noResponders() throws Exception {
        try (Connection client = connect()) {
            client.request("nobody.is.there", new byte[0]).get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            return result("no_responders", false);
        } catch (java.util.concurrent.ExecutionException error) {
            return result("no_responders", String.valueOf(error.getCause()).contains("503"));
        }
    }

    static Map<String, Object> unsubscribe() throws Exception {
        try (Connection client = connect()) {
            Subscription limited = client.subscribe("few"), witness = client.subscribe("few");
            limited.unsubscribe(3);
            for (int number = 0; number < 10; number++) client.publish("few", bytes(String.valueOf(number)));
            for (int number = 0; number < 10; number++) next(witness);
            int count = 0;
            while (limited.isActive() && limited.nextMessage(PATIENCE) != null) count++;
            return result("limited", count, "witness", 10);
        }
    }

    static Map<String, Object> noEcho() throws Exception {
        try (Connection quiet = Nats.connect(options().noEcho().build()); Connection other = connect()) {
            Subscription subscription = quiet.subscribe("echoes");
            quiet.publish("echoes", bytes("mine"));
            quiet.flush(PATIENCE);
            other.publish("echoes", bytes("theirs"));
            return result("got", text(next(subscription)));
        }
    }

    static Map<String, Object> drain() throws Exception {
        try (Connection receiver = connect(); Connection publisher = connect()) {
            AtomicInteger handled = new AtomicInteger();
            receiver.createDispatcher(message -> handled.incrementAndGet()).subscribe("drained");
            receiver.flush(PATIENCE);
            for (int number = 0; number < 200; number++) publisher.publish("drained", bytes("x"));
            publisher.flush(PATIENCE);
            receiver.flush(PATIENCE);
            receiver.drain(PATIENCE).get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            until(() -> receiver.getStatus() == Connection.Status.CLOSED);
            return result("handled", handled.get(), "closed", receiver.getStatus() == Connection.Status.CLOSED);
        }
    }

    static Map<String, Object> reconnect() throws Exception {
        CountDownLatch again = new CountDownLatch(1);
        try (Connection client = Nats.connect(watched(again).build())) {
            List<Subscription> several = List.of(
                client.subscribe("again.a"), client.subscribe("again.q", "group"), client.subscribe("again.w.*"));
            Subscription limited = client.subscribe("again.a");
            limited.unsubscribe(3);
            List<List<String>> rounds = new ArrayList<>();
            for (int round = 0; round < 2; round++) {
                if (round == 1) restart(again);
                List<String> found = new ArrayList<>();
                for (String subject : List.of("again.a", "again.q", "again.w.x")) client.publish(subject, bytes("x"));
                for (Subscription subscription : several) found.add(next(subscription).getSubject());
                next(limited);
                rounds.add(found);
            }
            client.publish("again.a", bytes("x"));
            next(limited);
            client.publish("again.a", bytes("x"));
            client.flush(PATIENCE);
            return result("before", rounds.get(0), "after", rounds.get(1), "limited_has_ended", !limited.isActive());
        }
    }

    // mailboxes

    static String create(Connection client, String name, boolean isPublic) throws Exception {
        return ask(client, MAILBOX + "CREATE", "name", name, "public", isPublic, "ttl", 3600).get("mail_id").getAsString();
    }

    static long send(Connection client, String mailId, String priority, String payload) throws Exception {
        Message answer = client.request(MAILBOX + "MSG." + mailId + priority, bytes(payload), PATIENCE);
        return JsonParser.parseString(text(answer)).getAsJsonObject().get("msg_id").getAsLong();
    }

    static Map<String, Object> mailboxCreate() throws Exception {
        try (Connection client = connect()) {
            JsonObject made = ask(client, MAILBOX + "CREATE");
            JsonObject first = ask(client, MAILBOX + "CREATE", "name", "create.one", "ttl", 60);
            JsonObject second = ask(client, MAILBOX + "CREATE", "name", "create.one", "ttl", 90);
            return result(
                "private", made.get("mail_id").getAsString().matches("m-[a-z2-7]{26}"),
                "name", first.get("mail_id"),
                "is_new", List.of(made.get("is_new"), first.get("is_new"), second.get("is_new")),
                "ttl", second.get("ttl"));
        }
    }

    static String shown(Message message) {
        return message.getHeaders().getFirst("mq9-priority") + " " + text(message);
    }

    static Map<String, Object> mailboxReceive() throws Exception {
        try (Connection client = connect()) {
            String name = create(client, "receive.one", false), subject = MAILBOX + "MSG." + name;
            long low = send(client, name, ".low", "later"), normal = send(client, name, "", "next");
            Headers own = new Headers().put("mq9-priority", "high").put("my-own", "kept");
            Message answer = client.request(subject, own, bytes("first"), PATIENCE);
            long high = JsonParser.parseString(text(answer)).getAsJsonObject().get("msg_id").getAsLong();
            List<String> ids = List.of(String.valueOf(high), String.valueOf(normal), String.valueOf(low));
            Subscription all = client.subscribe(subject + ".*"), only = client.subscribe(subject + ".high");
            List<Message> messages = List.of(next(all), next(all), next(all));
            boolean right = "kept".equals(messages.get(0).getHeaders().getFirst("my-own"));
            List<String> got = new ArrayList<>();
            for (int at = 0; at < 3; at++) {
                right &= ids.get(at).equals(messages.get(at).getHeaders().getFirst("mq9-msg-id"));
                got.add(shown(messages.get(at)));
            }
            client.publish(subject + ".urgent", bytes("live"));
            String live = shown(next(all));
            send(client, name, ".high", "again");
            return result(
                "got", got,
                "right", right,
                "pending", messages.get(2).getHeaders().getFirst("mq9-pending"),
                "live", live,
                "high", List.of(text(next(only)), text(next(only))));
        }
    }

    static Map<String, Object> mailboxFetch() throws Exception {
        try (Connection client = connect()) {
            String name = create(client, "fetch.one", false);
            for (String payload : List.of("a", "b", "c")) send(client, name, "", payload);
            JsonObject first = ask(client, MAILBOX + "LIST." + name, "limit", 2);
            JsonObject second = ask(client, MAILBOX + "LIST." + name, "limit", 2, "after", first.get("next"));
            return result(
                "pages", List.of(column(first, "messages", "payload"), column(second, "messages", "payload")),
                "end", second.get("next").isJsonNull());
        }
    }

    static Map<String, Object> mailboxDelete() throws Exception {
        try (Connection client = connect()) {
            String name = create(client, "delete.one", false);
            long id = send(client, name, "", "a");
            send(client, name, "", "b");
            List<Object> deleted = new ArrayList<>();
            for (int time = 0; time < 2; time++) {
                deleted.add(ask(client, MAILBOX + "DELETE." + name + "." + id).get("deleted"));
            }
            List<JsonElement> left = column(ask(client, MAILBOX + "LIST." + name), "messages", "payload");
            JsonElement removed = ask(client, MAILBOX + "REMOVE." + name).get("deleted");
            Message refusal = client.request(MAILBOX + "LIST." + name, new byte[0], PATIENCE);
            String code = refusal.getHeaders().getFirst("Nats-Service-Error-Code");
            return result("deleted", deleted, "left", left, "removed", removed, "code", code);
        }
    }

    static String event(Subscription subscription) throws Exception {
        JsonObject said = JsonParser.parseString(text(next(subscription))).getAsJsonObject();
        return said.get("event").getAsString() + " " + said.get("mail_id").getAsString();
    }

    static Map<String, Object> mailboxList() throws Exception {
        try (Connection client = connect()) {
            create(client, "list.one", true);
            Subscription subscription = client.subscribe("$mq9.AI.PUBLIC.LIST");
            List<String> events = new ArrayList<>(List.of(event(subscription)));
            create(client, "list.two", true);
            events.add(event(subscription));
            var listed = column(ask(client, "$mq9.AI.PUBLIC.LIST", "prefix", "list."), "mailboxes", "mail_id");
            ask(client, MAILBOX + "REMOVE.list.two");
            events.add(event(subscription));
            ask(client, MAILBOX + "REMOVE.list.one");
            return result("events", events, "listed", listed);
        }
    }

    static JsonObject fetchWork(Connection client, String name, int count) throws Exception {
        return ask(client, "$mq9.AI.MSG.FETCH." + name,
            "group_name", "workers", "lease_ms", 60_000, "config", result("num_msgs", count, "max_wait_ms", 0));
    }

    static List<String> worked(JsonObject answer) {
        List<String> found = new ArrayList<>();
        for (JsonElement each : answer.getAsJsonArray("messages")) {
            JsonObject message = each.getAsJsonObject();
            byte[] payload = Base64.getDecoder().decode(message.get("payload").getAsString());
            found.add(new String(payload, StandardCharsets.UTF_8) + " " + message.get("attempt"));
        }
        return found;
    }

    static JsonElement acknowledge(Connection client, String name, String op, List<JsonElement> ids) throws Exception {
        return ask(client, "$mq9.AI.MSG.ACK." + name, "group_name", "workers", "msg_ids", ids, "op", op).get("error");
    }

    static Map<String, Object> mailboxWork() throws Exception {
        try (Connection client = connect()) {
            String name = create(client, "work.one", false);
            for (String payload : List.of("a", "b", "c")) send(client, name, "", payload);
            JsonObject first = fetchWork(client, name, 2);
            List<JsonElement> ids = column(first, "messages", "msg_id");
            JsonElement acked = acknowledge(client, name, "ack", ids.subList(0, 1));
            JsonElement nacked = acknowledge(client, name, "nack", ids.subList(1, 2));
            JsonObject second = fetchWork(client, name, 10), third = fetchWork(client, name, 10);
            return result(
                "first", worked(first), "acked", acked, "nacked", nacked, "second", worked(second), "third", worked(third));
        }
    }

    static Map<String, Object> mailboxWorkers() throws Exception {
        try (Connection first = connect(); Connection second = connect()) {
            String name = create(first, "workers.one", false);
            ConcurrentLinkedQueue<String> found = new ConcurrentLinkedQueue<>();
            for (Connection client : List.of(first, second)) {
                client.createDispatcher(message -> found.add(text(message))).subscribe(MAILBOX + "MSG." + name, "workers");
                client.flush(PATIENCE);
            }
            for (int number = 0; number < 40; number++) send(first, name, "", String.valueOf(number));
            until(() -> new HashSet<>(found).size() == 40);
            first.flush(PATIENCE);
            second.flush(PATIENCE);
            return result("handled", found.size());
        }
    }

    /** Options of a client that counts the refusals that it hears of. */
    static Options.Builder counting(Options.Builder options, AtomicInteger heard) {
        return options.errorListener(new ErrorListener() {
            @Override
            public void errorOccurred(Connection connection, String error) {
                if (error.toLowerCase().contains("permissions violation")) heard.incrementAndGet();
            }
        });
    }

    static Map<String, Object> mailboxRefusal() throws Exception {
        AtomicInteger heard = new AtomicInteger();
        try (Connection client = Nats.connect(counting(options(), heard).build())) {
            client.publish(MAILBOX + "MSG.nobody", bytes("hello"));
            until(() -> heard.get() == 1);
            client.flush(PATIENCE);
            return result("heard", heard.get(), "connected", client.getStatus() == Connection.Status.CONNECTED);
        }
    }

    static Map<String, Object> mailboxRestart() throws Exception {
        CountDownLatch again = new CountDownLatch(1);
        try (Connection client = Nats.connect(watched(again).build())) {
            String name = create(client, "restart.one", false);
            Subscription subscription = client.subscribe(MAILBOX + "MSG." + name + ".*");
            List<String> before = new ArrayList<>(), after = new ArrayList<>();
            for (String payload : List.of("a", "b")) {
                send(client, name, "", payload);
                before.add(text(next(subscription)));
            }
            restart(again);
            send(client, name, "", "c");
            for (int number = 0; number < 3; number++) after.add(text(next(subscription)));
            var stored = column(ask(client, MAILBOX + "LIST." + name), "messages", "payload");
            return result("before", before, "after", after, "stored", stored);
        }
    }

    static Map<String, Object> mailboxWorkRestart() throws Exception {
        CountDownLatch again = new CountDownLatch(1);
        try (Connection client = Nats.connect(watched(again).build())) {
            String name = create(client, "restart.work", false);
            for (String payload : List.of("a", "b")) send(client, name, "", payload);
            JsonObject first = fetchWork(client, name, 1);
            restart(again);
            JsonObject second = fetchWork(client, name, 10);
            List<JsonElement> ids = column(first, "messages", "msg_id");
            ids.addAll(column(second, "messages", "msg_id"));
            JsonElement acked = acknowledge(client, name, "ack", ids);
            return result("first", worked(first), "second", worked(second), "acked", acked);
        }
    }

    // who may come in

    static Options.Builder credentials() throws Exception {
        Options.Builder options = options();
        Map<String, String> said = System.getenv();
        if (said.containsKey("NATS_USER")) options.userInfo(said.get("NATS_USER"), said.get("NATS_PASSWORD"));
        if (said.containsKey("NATS_TOKEN")) options.token(said.get("NATS_TOKEN").toCharArray());
        if (said.containsKey("NATS_NKEY_SEED_FILE")) {
            options.authHandler(new ByKey(Files.readString(Path.of(said.get("NATS_NKEY_SEED_FILE"))).trim().toCharArray()));
        }
        if (said.containsKey("NATS_CA")) options.sslContext(context(said));
        if (said.containsKey("NATS_TLS_FIRST")) options.tlsFirst();
        return options;
    }

    record ByKey(char[] seed) implements AuthHandler {
        @Override
        public byte[] sign(byte[] nonce) {
            try {
                return NKey.fromSeed(seed).sign(nonce);
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public char[] getID() {
            try {
                return NKey.fromSeed(seed).getPublicKey();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public char[] getJWT() {
            return null;
        }
    }

    static SSLContext context(Map<String, String> said) throws Exception {
        CertificateFactory certificates = CertificateFactory.getInstance("X.509");
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (FileInputStream file = new FileInputStream(said.get("NATS_CA"))) {
            trusted.setCertificateEntry("ca", certificates.generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        KeyStore own = KeyStore.getInstance(KeyStore.getDefaultType());
        own.load(null);
        if (said.containsKey("NATS_CERT")) {
            try (FileInputStream file = new FileInputStream(said.get("NATS_CERT"))) {
                Certificate[] chain = certificates.generateCertificates(file).toArray(Certificate[]::new);
                String lines = Files.readString(Path.of(said.get("NATS_KEY"))).replaceAll("-----[A-Z ]+-----|\\s", "");
                PrivateKey key =
                    KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(lines)));
                own.setKeyEntry("own", key, new char[0], chain);
            }
        }
        keys.init(own, new char[0]);
        SSLContext made = SSLContext.getInstance("TLS");
        made.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return made;
    }

    static Map<String, Object> roundTrip() throws Exception {
        try (Connection client = Nats.connect(credentials().build())) {
            Subscription subscription = client.subscribe("open.a");
            client.publish("open.a", bytes("hello"));
            return result("got", text(next(subscription)));
        }
    }

    static Map<String, Object> refused() throws Exception {
        // It waits for this long before it tells that it was refused.
        try (Connection client = Nats.connect(credentials().noReconnect().connectionTimeout(Duration.ofSeconds(2)).build())) {
            return result("refused", false);
        } catch (java.io.IOException error) { // an AuthenticationException is one
            return result("refused", true);
        }
    }

    static Map<String, Object> permissions() throws Exception {
        AtomicInteger heard = new AtomicInteger();
        try (Connection client = Nats.connect(counting(credentials(), heard).build())) {
            client.publish("closed.a", bytes("hello"));
            until(() -> heard.get() == 1);
            Subscription subscription = client.subscribe("open.a");
            client.publish("open.a", bytes("hello"));
            return result("heard", heard.get(), "got", text(next(subscription)));
        }
    }

    static final Map<String, Scenario> SCENARIOS = Map.ofEntries(
        Map.entry("connect", Client::connecting),
        Map.entry("publish_subscribe", Client::publishSubscribe),
        Map.entry("wildcards", Client::wildcards),
        Map.entry("queues", Client::queues),
        Map.entry("requests", () -> requests(options())),
        Map.entry("requests_old_style", () -> requests(options().oldRequestStyle())),
        Map.entry("headers", Client::headers),
        Map.entry("header_twice", Client::headerTwice),
        Map.entry("header_empty", Client::headerEmpty),
        Map.entry("no_responders", Client::noResponders),
        Map.entry("unsubscribe", Client::unsubscribe),
        Map.entry("no_echo", Client::noEcho),
        Map.entry("drain", Client::drain),
        Map.entry("reconnect", Client::reconnect),
        Map.entry("mailbox_create", Client::mailboxCreate),
        Map.entry("mailbox_receive", Client::mailboxReceive),
        Map.entry("mailbox_fetch", Client::mailboxFetch),
        Map.entry("mailbox_delete", Client::mailboxDelete),
        Map.entry("mailbox_list", Client::mailboxList),
        Map.entry("mailbox_work", Client::mailboxWork),
        Map.entry("mailbox_workers", Client::mailboxWorkers),
        Map.entry("mailbox_refusal", Client::mailboxRefusal),
        Map.entry("mailbox_restart", Client::mailboxRestart),
        Map.entry("mailbox_work_restart", Client::mailboxWorkRestart),
        Map.entry("round_trip", Client::roundTrip),
        Map.entry("refused", Client::refused),
        Map.entry("permissions", Client::permissions));

    public static void main(String[] names) {
        for (String name : names) {
            try {
                say(result("scenario", name, "result", SCENARIOS.get(name).play()));
            } catch (Exception error) {
                say(result("scenario", name, "error", String.valueOf(error)));
            }
        }
        System.exit(0);
    }
}
