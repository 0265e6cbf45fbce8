package link

func fewFiles() {}
