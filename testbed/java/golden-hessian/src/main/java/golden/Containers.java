// SPDX-License-Identifier: Apache-2.0
package golden;

import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;

/** Lists, arrays and maps. */
final class Containers {
    static void write(Golden golden) throws Exception {
        lists(golden);
        arrays(golden);
        maps(golden);
    }

    private static void lists(Golden golden) throws Exception {
        for (int length : new int[] {0, 1, 7, 8, 300}) {
            golden.objects("list-array-" + length, "ArrayList of " + length, filled(new ArrayList<>(), length));
            golden.objects("list-linked-" + length, "LinkedList of " + length, filled(new LinkedList<>(), length));
        }
        golden.objects("list-kinds", "asList, TreeSet, HashSet, LinkedHashSet, Vector, CopyOnWriteArrayList, ArrayDeque",
                Arrays.asList("a", null, 1L), filled(new TreeSet<>(), 3), filled(new HashSet<>(), 2),
                filled(new LinkedHashSet<>(), 9), filled(new Vector<>(), 1), filled(new CopyOnWriteArrayList<>(), 2),
                filled(new ArrayDeque<>(), 2));
        golden.objects("list-collections", "Collections.emptyList, singletonList, unmodifiableList",
                Collections.emptyList(), Collections.singletonList(1), Collections.unmodifiableList(filled(new ArrayList<>(), 2)));
        golden.objects("list-type-twice", "two LinkedLists, two Vectors, again a LinkedList",
                filled(new LinkedList<>(), 1), filled(new LinkedList<>(), 9), filled(new Vector<>(), 1),
                filled(new Vector<>(), 2), filled(new LinkedList<>(), 0));
        golden.objects("list-iterator", "Iterator and Enumeration: lists of unknown length",
                filled(new ArrayList<>(), 3).iterator(), filled(new Vector<>(), 2).elements(), "next");
        Out out = golden.out();
        out.listBegin("java.util.Vector").object("a").object(1).listEnd();
        out.listBegin(null).object("a").object(1).listEnd();
        out.object("next");
        golden.save("list-open", "writeListBegin(-1, \"java.util.Vector\"), writeListBegin(-1, null)", List.of(), out.bytes());
        golden.objects("list-nested", "60 lists inside each other", nested(60));
        List<Object> self = new ArrayList<>();
        self.add(self);
        self.add("x");
        self.add(self);
        golden.objects("list-of-itself", "a list that holds itself twice", self);
    }

    private static void arrays(Golden golden) throws Exception {
        golden.objects("array-primitives", "int[], long[], short[], float[], double[], boolean[], empty int[]",
                new int[] {1, 2, 300, 70000, 1 << 20}, new long[] {1, 2, 3000000000L}, new short[] {1, 2}, new float[] {1.5f, 2f},
                new double[] {0, 1, 1.5, Math.PI}, new boolean[] {true, false}, new int[0], new int[20], new long[0]);
        golden.objects("array-objects", "String[], Object[], Integer[], Long[], int[][], String[][], Color[], Order[]",
                new String[] {"a", null, "b"}, new Object[] {"a", 1, null}, new Integer[] {1, 2}, new Long[] {1L},
                new int[][] {{1}, {2, 3}, {}}, new String[][] {{"a"}, {"b"}}, new Model.Color[] {Model.Color.RED},
                new Model.Order[] {new Model.Order("o1")}, new Date[] {new Date(0)}, new byte[][] {{1}, {2}});
    }

    private static void maps(Golden golden) throws Exception {
        Map<Object, Object> odd = new LinkedHashMap<>();
        odd.put(1, "int");
        odd.put(2L, "long");
        odd.put(null, "null");
        odd.put("list", filled(new ArrayList<>(), 2));
        odd.put(1.5, new Date(0));
        golden.objects("map-kinds", "HashMap, empty HashMap, LinkedHashMap, TreeMap, ConcurrentHashMap, Hashtable, singletonMap",
                named(new HashMap<>()), new HashMap<>(), named(new LinkedHashMap<>()), named(new TreeMap<>()),
                named(new ConcurrentHashMap<>()), named(new Hashtable<>()), Collections.singletonMap("k", "v"),
                Collections.emptyMap(), named(new Properties()));
        golden.objects("map-odd-keys", "LinkedHashMap with int, long, null, double keys", odd);
        golden.objects("map-type-twice", "TreeMap twice", named(new TreeMap<>()), named(new TreeMap<>()));
        Map<Object, Object> outer = new HashMap<>();
        outer.put("inner", named(new HashMap<>()));
        outer.put("self", outer);
        golden.objects("map-nested", "a map that holds a map and itself", outer, outer);
        EnumMap<Model.Color, String> byColor = new EnumMap<>(Model.Color.class);
        byColor.put(Model.Color.BLUE, "sky");
        golden.objects("map-enum", "EnumMap, EnumSet", byColor, EnumSet.of(Model.Color.RED));
    }

    private static <C extends Collection<Object>> C filled(C list, int length) {
        for (int i = 0; i < length; i++) {
            list.add("item" + i);
        }
        return list;
    }

    private static <M extends Map<Object, Object>> M named(M map) {
        map.put("one", "1");
        map.put("two", "2");
        map.put("emoji", "\ud83d\ude00");
        return map;
    }

    private static List<Object> nested(int depth) {
        List<Object> list = new ArrayList<>();
        for (int i = 1; i < depth; i++) {
            List<Object> outer = new ArrayList<>();
            outer.add(list);
            list = outer;
        }
        return list;
    }
}
