// SPDX-License-Identifier: Apache-2.0
package golden;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.net.InetAddress;
import java.time.*;
import java.util.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/** Instances of classes, and references to them. */
final class Objects {
    static void write(Golden golden) throws Exception {
        Model.Order plain = new Model.Order("o1");
        golden.objects("object", "new Order(\"o1\")", plain);

        Model.Order cyclic = new Model.Order("o2");
        cyclic.next = cyclic;
        cyclic.parts = new ArrayList<>(List.of(plain, cyclic, plain));
        cyclic.extra = new HashMap<>();
        cyclic.extra.put("self", cyclic);
        cyclic.extra.put("parts", cyclic.parts);
        golden.objects("object-cycle", "an Order that holds itself in a field, a list and a map; then again", cyclic, cyclic, plain);

        Model.Order chain = new Model.Order("last");
        for (int i = 0; i < 50; i++) {
            Model.Order next = new Model.Order("o" + i);
            next.next = chain;
            chain = next;
        }
        golden.objects("object-chain", "51 Orders in a chain", chain);

        List<Object> many = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            many.add(new Model.Base());
        }
        many.addAll(new ArrayList<>(many));
        golden.objects("object-many-refs", "300 Bases, then the same 300 again: references of one and two bytes", many);

        golden.objects("object-inherited", "new Derived(), new Base()", new Model.Derived(), new Model.Base());
        golden.objects("object-empty", "new Empty() twice in a list", List.of(new Model.Empty(), new Model.Empty()).toArray());
        golden.objects("object-18-classes", "18 classes, then the last one and the first one again",
                new Model.C00(), new Model.C01(), new Model.C02(), new Model.C03(), new Model.C04(), new Model.C05(),
                new Model.C06(), new Model.C07(), new Model.C08(), new Model.C09(), new Model.C10(), new Model.C11(),
                new Model.C12(), new Model.C13(), new Model.C14(), new Model.C15(), new Model.C16(), new Model.C17(),
                new Model.C17(), new Model.C00());
        golden.objects("enum", "RED, BLUE, RED", Model.Color.RED, Model.Color.BLUE, Model.Color.RED);
        golden.objects("numbers", "BigDecimal, BigInteger, AtomicInteger, AtomicLong",
                new BigDecimal("1.50"), new BigDecimal("-1E+400"), new BigInteger("123456789012345678901234567890"));
        golden.objects("atomics", "AtomicInteger, AtomicLong", new AtomicInteger(5), new AtomicLong(6));
        golden.objects("uuid", "new UUID(1, 2)", new UUID(1, 2));
        golden.objects("locale-and-class", "Locale.US, String.class, int.class, Order[].class",
                Locale.US, String.class, int.class, Model.Order[].class);
        golden.objects("sql-dates", "java.sql.Date, Time, Timestamp",
                new java.sql.Date(0), new java.sql.Time(61000), new java.sql.Timestamp(1234567890123L));
        Calendar calendar = new GregorianCalendar(TimeZone.getTimeZone("UTC"), Locale.US);
        calendar.setTimeInMillis(1234567890123L);
        golden.objects("calendar", "a GregorianCalendar", calendar);
        golden.objects("inet-address", "InetAddress 10.0.0.5", InetAddress.getByAddress(new byte[] {10, 0, 0, 5}));
        golden.objects("bitset", "BitSet of 3 and 70", bits());
        times(golden);
        exceptions(golden);
    }

    private static BitSet bits() {
        BitSet bits = new BitSet();
        bits.set(3);
        bits.set(70);
        return bits;
    }

    private static void times(Golden golden) throws Exception {
        LocalDate date = LocalDate.of(2024, 2, 29);
        LocalTime time = LocalTime.of(12, 34, 56, 789_000_000);
        golden.objects("time-local", "LocalDate, LocalTime, LocalDateTime, LocalDate", date, time, LocalDateTime.of(date, time), date);
        golden.objects("time-zoned", "OffsetDateTime, ZonedDateTime, ZoneOffset",
                OffsetDateTime.of(date, time, ZoneOffset.ofHours(8)),
                ZonedDateTime.of(date, time, ZoneId.of("Asia/Shanghai")), ZoneOffset.UTC);
        golden.objects("time-others", "Instant, Duration, Period, Year, YearMonth, MonthDay, DayOfWeek, Month",
                Instant.ofEpochSecond(1234567890, 123456789), Duration.ofMillis(1500), Period.of(1, 2, 3), Year.of(2024),
                YearMonth.of(2024, 2), MonthDay.of(2, 29), DayOfWeek.MONDAY, Month.MAY);
    }

    private static void exceptions(Golden golden) throws Exception {
        StackTraceElement[] stack = {
            new StackTraceElement("demo.Shop", "buy", "Shop.java", 17),
            new StackTraceElement("demo.Main", "main", null, -2),
        };
        RuntimeException plain = new RuntimeException("boom");
        plain.setStackTrace(stack);
        golden.objects("exception", "new RuntimeException(\"boom\")", plain);

        IllegalStateException cause = new IllegalStateException("inner \ud83d\ude00");
        cause.setStackTrace(stack);
        Model.Refused refused = new Model.Refused("outer", cause);
        refused.setStackTrace(stack);
        refused.addSuppressed(plain);
        golden.objects("exception-chain", "new Refused(\"outer\", cause) with a suppressed one", refused);
    }
}
