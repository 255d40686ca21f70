/* A fault of each kind, to see that a tool is really on: what it does not find here, it would not find elsewhere.
   planted use-after-free | leak | race */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <wharf.h>

static int shared;

static void *writes(void *argument) {
  int round;
  for (round = 0; round < 1000; round++) shared++;
  return argument;
}

/* The fault is in a callback of the library, so the tool must be on in both. */
static void on_log(void *context, int32_t level, const char *message) {
  (void)level;
  (void)message;
  ((volatile char *)context)[0]++;
}

static void run_engine(void *context) {
  wharf_engine_config config;
  wharf_engine engine;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.on_log = on_log;
  config.log_context = context;
  if (wharf_engine_create(&config, &engine, NULL) == WHARF_OK) wharf_engine_destroy(engine, 0);
}

int main(int argc, char **argv) {
  const char *fault = argc > 1 ? argv[1] : "";
  pthread_t threads[2];
  if (strcmp(fault, "use-after-free") == 0) {
    char *volatile memory = (char *)malloc(16);
    free(memory);
    run_engine(memory);
  } else if (strcmp(fault, "leak") == 0) {
    char *volatile memory = (char *)malloc(4321);
    memory[0] = 1;
    memory = NULL;
    run_engine(&shared);
  } else if (strcmp(fault, "race") == 0) {
    if (pthread_create(&threads[0], NULL, writes, NULL) || pthread_create(&threads[1], NULL, writes, NULL)) return 2;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
  } else {
    return 2;
  }
  return 0;
}
