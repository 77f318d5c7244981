// SPDX-License-Identifier: Apache-2.0
package golden;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;

/**
 * Writes one file per case. Its lines:
 * <pre>
 * # case, library version, Java expression
 * # values TOKEN...          optional: what the top-level values are
 * 48656c6c6f                 bytes in hex, at most 32 a line
 * 61*32768                   the same byte so many times
 * </pre>
 * Tokens: {@code null true false 5 5L 1.5d 1234ms} and strings such as {@code 2*"a"+1*"\ud83d"}, cut into runs of one unit.
 */
public final class Golden {
    private final String library;
    private final Path folder;

    private Golden(String library, Path folder) {
        this.library = library;
        this.folder = folder;
    }

    public static void main(String[] args) throws Exception {
        Golden golden = new Golden(args[0], Path.of(args[1]));
        Scalars.write(golden);
        Containers.write(golden);
        Objects.write(golden);
        // Only one of the two is compiled: the other needs another library.
        String calls = golden.library.startsWith("sofa") ? "golden.SofaCalls" : "golden.DubboCalls";
        Class.forName(calls).getDeclaredMethod("write", Golden.class).invoke(null, golden);
    }

    Out out() throws Exception {
        return Out.of(library);
    }

    /** A case whose values a test can compare: every value is written by {@code writeObject}. */
    void scalars(String name, String expression, Object... values) throws Exception {
        Out out = out();
        List<String> tokens = new ArrayList<>();
        for (Object value : values) {
            out.object(value);
            tokens.add(token(value));
        }
        save(name, expression, tokens, out.bytes());
    }

    /** A case of any values. A library that cannot write one leaves the case out. */
    void objects(String name, String expression, Object... values) throws Exception {
        Out out = out();
        try {
            for (Object value : values) {
                out.object(value);
            }
        } catch (java.lang.reflect.InvocationTargetException e) {
            System.err.println(library + " cannot write " + name + ": " + e.getCause());
            return;
        }
        save(name, expression, List.of(), out.bytes());
    }

    void save(String name, String expression, List<String> tokens, byte[] bytes) throws Exception {
        String version = versions();
        StringBuilder text = new StringBuilder("# ").append(name).append(", ").append(version).append(", ")
                .append(expression).append('\n');
        if (!tokens.isEmpty()) {
            text.append("# values ").append(String.join(" ", tokens)).append('\n');
        }
        hex(text, bytes);
        Files.write(folder.resolve(name + ".hex"), text.toString().getBytes(StandardCharsets.US_ASCII));
    }

    private String versions() {
        switch (library) {
            case "hessian-lite-3.2": return "com.alibaba:hessian-lite 3.2.13";
            case "hessian-lite-4.0": return "org.apache.dubbo:hessian-lite 4.0.3";
            default: return "com.alipay.sofa:hessian 3.5.5";
        }
    }

    private static void hex(StringBuilder text, byte[] bytes) {
        int inLine = 0;
        for (int at = 0; at < bytes.length; ) {
            int run = 1;
            while (at + run < bytes.length && bytes[at + run] == bytes[at]) {
                run++;
            }
            if (run > 64) {
                text.append(inLine > 0 ? "\n" : "").append(String.format("%02x*%d%n", bytes[at], run));
                inLine = 0;
                at += run;
                continue;
            }
            text.append(String.format("%02x", bytes[at++]));
            if (++inLine == 32) {
                text.append('\n');
                inLine = 0;
            }
        }
        text.append(inLine > 0 ? "\n" : "");
    }

    private static String token(Object value) {
        if (value instanceof String) {
            return quoted((String) value);
        } else if (value instanceof Long) {
            return value + "L";
        } else if (value instanceof Double) {
            return value + "d";
        } else if (value instanceof Date) {
            return ((Date) value).getTime() + "ms";
        }
        return String.valueOf(value);
    }

    private static String quoted(String value) {
        StringBuilder text = new StringBuilder();
        for (int at = 0; at < value.length(); ) {
            int run = 1;
            while (at + run < value.length() && value.charAt(at + run) == value.charAt(at)) {
                run++;
            }
            char unit = value.charAt(at);
            boolean plain = unit > 0x20 && unit < 0x7f && unit != '"' && unit != '\\' && unit != '+' && unit != '*';
            text.append(at == 0 ? "" : "+").append(run).append("*\"");
            text.append(plain ? String.valueOf(unit) : String.format("\\u%04x", (int) unit)).append('"');
            at += run;
        }
        return text.length() == 0 ? "0*\"\"" : text.toString();
    }
}
