/* RD Station's event endpoint, as cheap as it can be: one thread, epoll, keep-alive HTTP/1.1.
 *
 *   POST /platform/events           200 {"event_uuid": "..."} after the delay; counts the event and its "identifier"
 *   POST /reset?delay_ms=D          forget everything, set the delay
 *   GET  /stats                     counters
 *   GET  /arrivals                  int64 nanoseconds (CLOCK_REALTIME) of the first arrival of each identifier, 0 = none
 *
 * Listens on loopback at a free port, which it writes to standard output. Ends when standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 16384, IDENTIFIERS = 8 * 1000 * 1000, WAITING = 1 << 16, ROOM = 16384 };

typedef struct {
  char *data;
  int length, capacity;
  unsigned generation; /* so that an answer that is due is not given to the next connection of that number */
} Connection;

typedef struct {
  int64_t due;
  int fd;
  unsigned generation;
} Waiting;

static Connection connections[CONNECTIONS];
static Waiting waiting[WAITING];
static unsigned head, tail;
static int64_t *arrivals, first, last, highest = -1;
static uint64_t events, distinct, unnamed, serial;
static int loop, delay_ms, running, most_running;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void write_all(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t done = send(fd, data, size, MSG_NOSIGNAL);
    if (done > 0) {
      data += done;
      size -= done;
    } else if (errno == EAGAIN || errno == EINTR) {
      usleep(50);
    } else {
      return;
    }
  }
}

static void reply(int fd, const char *body, size_t size) {
  char header[128];
  int length = snprintf(header, sizeof header,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", size);
  write_all(fd, header, length);
  write_all(fd, body, size);
}

static void accept_event(int fd) {
  char answer[256];
  int length = snprintf(answer, sizeof answer,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 53\r\n\r\n"
                        "{\"event_uuid\":\"5fac8a57-0000-4000-a000-%012llx\"}", (unsigned long long)++serial);
  running--;
  write_all(fd, answer, length);
}

static void drop(int fd) {
  epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
  close(fd);
  connections[fd].length = 0;
  connections[fd].generation++;
}

static void receive_event(int fd, const char *body, int size) {
  int64_t at = now();
  const char *name = memmem(body, size, "\"identifier\":", 13);
  if (name) name += name[13] == ' ' ? 14 : 13; /* `json=` of a Python client writes a blank after the colon */
  long number = name && *name == '"' ? strtol(name + 1, NULL, 10) : -1;
  events++;
  first = first ? first : at;
  last = at;
  if (number < 0 || number >= IDENTIFIERS) {
    unnamed++;
  } else if (!arrivals[number]) {
    arrivals[number] = at;
    distinct++;
    highest = number > highest ? number : highest;
  }
  if (++running > most_running) most_running = running;
  if (!delay_ms) {
    accept_event(fd);
    return;
  }
  waiting[tail++ % WAITING] = (Waiting){at + delay_ms * 1000000ll, fd, connections[fd].generation};
}

static void control(int fd, const char *request) {
  if (!strncmp(request, "POST /reset", 11)) {
    const char *delay = strstr(request, "delay_ms=");
    memset(arrivals, 0, sizeof *arrivals * (highest + 1));
    events = distinct = unnamed = 0;
    first = last = 0;
    highest = -1;
    most_running = 0;
    delay_ms = delay ? atoi(delay + 9) : delay_ms;
    reply(fd, "{}", 2);
  } else if (!strncmp(request, "GET /arrivals", 13)) {
    reply(fd, (char *)arrivals, sizeof *arrivals * (highest + 1));
  } else {
    struct rusage used;
    char body[512];
    getrusage(RUSAGE_SELF, &used);
    double seconds = used.ru_utime.tv_sec + used.ru_stime.tv_sec +
                     (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    int size = snprintf(body, sizeof body,
                        "{\"events\":%llu,\"distinct\":%llu,\"unnamed\":%llu,\"first_ns\":%lld,\"last_ns\":%lld,"
                        "\"most_running\":%d,\"cpu_seconds\":%.6f}",
                        (unsigned long long)events, (unsigned long long)distinct, (unsigned long long)unnamed,
                        (long long)first, (long long)last, most_running, seconds);
    reply(fd, body, size);
  }
}

static void receive(int fd) {
  Connection *c = &connections[fd];
  if (c->capacity - c->length < ROOM) {
    c->capacity = c->capacity ? 2 * c->capacity : 2 * ROOM;
    c->data = realloc(c->data, c->capacity + 1);
  }
  ssize_t got = recv(fd, c->data + c->length, c->capacity - c->length, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) drop(fd);
  if (got <= 0) return;
  c->length += got;
  for (;;) {
    c->data[c->length] = 0;
    char *end = memmem(c->data, c->length, "\r\n\r\n", 4);
    if (!end) return;
    *end = 0;
    const char *named = strcasestr(c->data, "\r\ncontent-length:");
    *end = '\r';
    int header = end - c->data + 4, body = named ? atoi(named + 17) : 0;
    if (c->length < header + body) return;
    if (!strncmp(c->data, "POST /platform/events", 21)) {
      receive_event(fd, c->data + header, body);
    } else {
      control(fd, c->data);
    }
    c->length -= header + body;
    if (!c->length) return;
    memmove(c->data, c->data + header + body, c->length);
  }
}

static void welcome(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= CONNECTIONS) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[fd].length = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  arrivals = calloc(IDENTIFIERS, sizeof *arrivals);
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return 1;
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  loop = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, found[256];
  epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
  event.data.fd = STDIN_FILENO;
  epoll_ctl(loop, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  for (;;) {
    int64_t left = head == tail ? 1000000000ll : waiting[head % WAITING].due - now();
    int count = epoll_wait(loop, found, 256, left <= 0 ? 0 : (int)(left / 1000000 + 1));
    for (int i = 0; i < count; i++) {
      char gone;
      int fd = found[i].data.fd;
      if (fd == STDIN_FILENO) {
        if (read(fd, &gone, 1) <= 0) return 0;
      } else if (fd == listener) {
        welcome(fd);
      } else {
        receive(fd);
      }
    }
    int64_t at = head == tail ? 0 : now();
    for (; head != tail && waiting[head % WAITING].due <= at; head++) {
      Waiting *due = &waiting[head % WAITING];
      if (connections[due->fd].generation == due->generation) {
        accept_event(due->fd);
      } else {
        running--;
      }
    }
  }
}
