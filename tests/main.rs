mod torture;
