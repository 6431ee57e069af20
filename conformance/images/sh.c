// sh of the images: busybox's, whose messages the suite compares, unless the environment has a variable that is no
// identifier. busybox's shell drops those, bash hands them on, and the suite looks for them.

#include <string.h>
#include <unistd.h>

extern char **environ;

static int is_identifier(const char *variable) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return !(*variable >= '0' && *variable <= '9') && variable[strspn(variable, letters)] == '=';
}

int main(int argc, char **argv) {
    (void)argc;
    const char *shell = "/bin/busybox";
    for (char **variable = environ; *variable != NULL; variable++) {
        if (!is_identifier(*variable)) shell = "/bin/bash";
    }
    // Both go by the name they are started under.
    execv(shell, argv);
    return 127;
}
