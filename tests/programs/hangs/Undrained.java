// Process.waitFor() while nobody reads what the process writes.
public class Undrained {
    public static void main(String[] arguments) throws Exception {
        Process process = new ProcessBuilder("head", "-c", "1000000", "/dev/zero").start();
        System.out.println("ask " + ProcessHandle.current().pid() + " 0");
        process.waitFor();
    }
}
