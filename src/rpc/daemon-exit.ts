/**
 * What `bangerd` tells by its exit status to the client that started it. EX_TEMPFAIL of sysexits.h: another daemon holds the
 * instance lock, so one is starting, serving or about to end. Waiting, and trying again, is right then; for any other status it is not.
 */
export const EXIT_ALREADY_RUNNING = 75;
