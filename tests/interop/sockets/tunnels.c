// Both ends of many WebSockets, cheap enough that what stands between them is what costs.
//
//   tunnels target PORT    accepts, answers a handshake with 101, any other request with 200, and echoes frames
//   tunnels client PORT    does on standard input:  open N        until N sockets are open in all
//                                                   echo N COUNT  COUNT echoes on each of the first N, all at once
//
// A message is a whole frame of 64 bytes, masked on its way to the target and not on its way back.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAYLOAD = 64, ASKED = 2 + 4 + PAYLOAD, ECHOED = 2 + PAYLOAD, FILES = 1 << 20, OPENING = 64, PATIENCE_MS = 15000 };

// What a descriptor has received: the end of a head so far, or bytes of frames; and whether its tunnel is open.
static struct connection { unsigned ends, open, bytes, left; } connections[FILES];
static unsigned char asked[ASKED] = {0x82, 0x80 | PAYLOAD, 1, 2, 3, 4}, echoed[ECHOED * 64];

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in at(const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void watch(int epoll, int file, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = file};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event)) die("epoll_ctl");
}

static void say(int file, const void *bytes, size_t length) {
  if (write(file, bytes, length) != (ssize_t)length) die("write");
}

// Reads up to the empty line of a head; gives what was read behind it, or -1 while the head is not whole.
static int behind_head(struct connection *c, const char *buffer, int length) {
  for (int i = 0; i < length; i++) {
    c->ends = buffer[i] == '\n' ? c->ends + 1 : buffer[i] == '\r' ? c->ends : 0;
    if (c->ends == 2) return length - i - 1;
  }
  return -1;
}

static void target(const char *port) {
  static const char accepted[] =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: s3pPLBMiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
  static const char healthy[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  struct sockaddr_in address = at(port);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, epoll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) die("listen");
  watch(epoll, listener, EPOLLIN);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int file = events[i].data.fd;
      if (file == listener) {
        while ((file = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
          setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          connections[file] = (struct connection){0};
          watch(epoll, file, EPOLLIN);
        }
        continue;
      }
      struct connection *c = &connections[file];
      char buffer[8192];
      int length = read(file, buffer, sizeof buffer);
      if (length <= 0) {
        if (length < 0 && errno == EAGAIN) continue;
        close(file);
        continue;
      }
      if (!c->open) {
        int upgrade = memmem(buffer, length, "Sec-WebSocket-Key", 17) || memmem(buffer, length, "sec-websocket-key", 17);
        length = behind_head(c, buffer, length);
        if (length < 0) continue;
        if (!upgrade) {
          say(file, healthy, sizeof healthy - 1);
          close(file);
          continue;
        }
        say(file, accepted, sizeof accepted - 1);
        c->open = 1;
      }
      c->bytes += length;
      unsigned whole = c->bytes / ASKED;
      c->bytes %= ASKED;
      if (whole > 64) die("more than the client sends at once");
      if (whole) say(file, echoed, whole * ECHOED);
    }
  }
}

static int files[FILES], opened, begun, epoll;
static struct sockaddr_in proxy;

static void begin(void) {
  int file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  if (file < 0) die("socket");
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(file, (void *)&proxy, sizeof proxy) && errno != EINPROGRESS) die("connect");
  connections[file] = (struct connection){0};
  files[begun++] = file;
  watch(epoll, file, EPOLLOUT);
}

// Opens a few at a time until `count` are open.
static void open_all(int count) {
  static const char hello[] =
      "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
  while (opened < count) {
    while (begun < count && begun - opened < OPENING) begin();
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, PATIENCE_MS);
    if (ready == 0) die("no answer while opening");
    for (int i = 0; i < ready; i++) {
      int file = events[i].data.fd;
      if (events[i].events & EPOLLOUT) {
        say(file, hello, sizeof hello - 1);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
        epoll_ctl(epoll, EPOLL_CTL_MOD, file, &event);
        continue;
      }
      char buffer[4096];
      int length = read(file, buffer, sizeof buffer);
      if (length <= 0) die("lost while opening");
      if (!connections[file].ends && memcmp(buffer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "no 101: %.*s\n", length, buffer);
        exit(1);
      }
      if (behind_head(&connections[file], buffer, length) == 0) {
        connections[file].open = 1;
        opened++;
      }
    }
  }
}

static void echo_all(int count, unsigned each) {
  int busy = count;
  for (int i = 0; i < count; i++) {
    connections[files[i]].left = each;
    connections[files[i]].bytes = 0;
    say(files[i], asked, ASKED);
  }
  while (busy) {
    struct epoll_event events[256];
    int ready = epoll_wait(epoll, events, 256, PATIENCE_MS);
    if (ready == 0) die("no echo");
    for (int i = 0; i < ready; i++) {
      int file = events[i].data.fd;
      struct connection *c = &connections[file];
      char buffer[4096];
      int length = read(file, buffer, sizeof buffer);
      if (length <= 0) die("lost while echoing");
      c->bytes += length;
      if (c->bytes < ECHOED) continue;
      if (c->bytes > ECHOED || buffer[0] != (char)0x82) die("not what was sent");
      c->bytes = 0;
      if (--c->left) say(file, asked, ASKED);
      else busy--;
    }
  }
}

int main(int count, char **words) {
  if (count != 3) return 2;
  for (int i = 0; i < 64; i++) {
    echoed[i * ECHOED] = 0x82;
    echoed[i * ECHOED + 1] = PAYLOAD;
  }
  if (!strcmp(words[1], "target")) target(words[2]);
  proxy = at(words[2]);
  epoll = epoll_create1(0);
  char line[100];
  while (fgets(line, sizeof line, stdin)) {
    int first = 0;
    unsigned second = 0;
    if (sscanf(line, "open %d", &first) == 1) open_all(first);
    else if (sscanf(line, "echo %d %u", &first, &second) == 2) echo_all(first, second);
    puts("done");
    fflush(stdout);
  }
}
