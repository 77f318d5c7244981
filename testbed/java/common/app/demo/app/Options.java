// SPDX-License-Identifier: Apache-2.0
package demo.app;

import java.util.LinkedHashMap;
import java.util.Map;

/** Options of the form {@code --name value}; a bare {@code --name} is {@code true}. */
public final class Options {
    private final Map<String, String> values = new LinkedHashMap<>();

    Options(String[] args) {
        for (int i = 0; i < args.length; i++) {
            if (!args[i].startsWith("--")) throw new IllegalArgumentException("not an option: " + args[i]);
            boolean bare = i + 1 == args.length || args[i + 1].startsWith("--");
            values.put(args[i].substring(2), bare ? "true" : args[++i]);
        }
    }

    /** Null when not given. */
    public String text(String name) {
        return values.get(name);
    }

    public String text(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    public int number(String name, int otherwise) {
        return values.containsKey(name) ? Integer.parseInt(values.get(name)) : otherwise;
    }

    public boolean flag(String name, boolean otherwise) {
        return values.containsKey(name) ? Boolean.parseBoolean(values.get(name)) : otherwise;
    }

    public String[] list(String name, String otherwise) {
        String text = text(name, otherwise);
        return text.isEmpty() ? new String[0] : text.split(",");
    }
}
